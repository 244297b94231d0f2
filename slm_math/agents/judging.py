"""Judging an answer: a verifier that may run programs, a program that decides, and which draft a
verdict is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from slm_math.agents.coding import develop, printed, work
from slm_math.agents.verdicts import certain, verdict
from slm_math.prompts import render
from slm_math.types import Note, Problem, Workflow, user

T = TypeVar("T")


def reviewed(notes: Iterable[tuple[str, Sequence[int], T]]) -> Iterator[tuple[T, T]]:
    """(draft or candidate, verdict on it) for notes given as (kind, branch, what to return), in
    order.

    A verdict is about the last one of its own branch or of one that it branched off.
    """
    drafts: list[tuple[Sequence[int], T]] = []
    for kind, branch, what in notes:
        if kind in ("draft", "candidate"):
            drafts.append((branch, what))
        elif kind == "verdict":
            about = next(
                (d for at, d in reversed(drafts) if list(at) == list(branch[: len(at)])), None
            )
            if about is not None:
                yield about, what


def judge(
    problem: Problem,
    draft: str,
    answer: str,
    prompt: str,
    output_prompt: str,
    role: str = "verifier",
    runs: int = 1,
    temperature: float | None = None,
) -> Workflow[tuple[str, str]]:
    """Asks `role` whether a draft's answer is right: (verdict, what it says in the end).

    It may write up to `runs` programs, and then sees their output before it decides. A lost reply
    is UNCLEAR.
    """
    question = user(
        render(prompt, problem=problem.text, draft=draft, answer=answer), problem.images
    )
    _, opinion = yield from work(question, output_prompt, runs, role, temperature, says=certain)
    if opinion is None:
        return "UNCLEAR", ""
    decision = verdict(opinion.text)
    yield [Note("verdict", decision, role=role)]
    return decision, opinion.text


def trial(
    problem: Problem,
    answer: str,
    prompt: str,
    repair_prompt: str,
    role: str = "solver",
    repairs: int = 1,
) -> Workflow[tuple[str, str]]:
    """Asks for a program that puts an answer back into its problem and prints True or False:
    (verdict, its output).

    True is CORRECT, False INCORRECT; anything else (no program, an error that stays, a lost reply)
    is UNCLEAR.
    """
    chat = user(render(prompt, problem=problem.text, answer=answer), problem.images)
    _, result = yield from develop(chat, repair_prompt, repairs, role)
    if result is None:
        return "UNCLEAR", ""
    said = printed(result)
    decision = {"True": "CORRECT", "False": "INCORRECT"}.get(said or "", "UNCLEAR")
    yield [Note("verdict", decision, role=role)]
    return decision, result.text
