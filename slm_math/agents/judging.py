"""Judging an answer: what a verdict says, a verifier that may run programs, a program that decides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from slm_math.agents.coding import develop, printed, work
from slm_math.prompts import render
from slm_math.types import Note, Problem, Workflow, user

T = TypeVar("T")
_WORDS = r"\b(?:(NOT)\s+)?(INCORRECT|CORRECT|UNCLEAR|ACCEPT|REJECT)(?:ED)?\b"
_ANY_CASE, _CAPITALS = re.compile(_WORDS, re.IGNORECASE), re.compile(_WORDS)
_MARK = re.compile("VERDICT:", re.IGNORECASE)
_MEANS = {"ACCEPT": "CORRECT", "REJECT": "INCORRECT"}
_DENIED = {"CORRECT": "INCORRECT", "INCORRECT": "UNCLEAR", "UNCLEAR": "UNCLEAR"}


def verdict(text: str) -> str:
    """CORRECT, INCORRECT or UNCLEAR: the last such word after "VERDICT:", else the last one written in capitals.

    Whole words only; "NOT CORRECT" is INCORRECT; ACCEPT is CORRECT and REJECT INCORRECT; a text without a verdict is
    UNCLEAR.
    """
    return decided(text) or "UNCLEAR"


def decided(text: str) -> str | None:
    """The verdict that a text states, None when it states none."""
    *_, after = _MARK.split(text)
    found = (_ANY_CASE.findall(after) if _MARK.search(text) else []) or _CAPITALS.findall(text)
    if not found:
        return None
    negated, word = found[-1]
    said: str = word.upper()
    said = _MEANS.get(said, said)
    return _DENIED[said] if negated else said


def reviewed(notes: Iterable[tuple[str, Sequence[int], T]]) -> Iterator[tuple[T, T]]:
    """(draft or candidate, verdict on it) for notes given as (kind, branch, what to return), in order.

    A verdict is about the last one of its own branch or of one that it branched off.
    """
    drafts: list[tuple[Sequence[int], T]] = []
    for kind, branch, what in notes:
        if kind in ("draft", "candidate"):
            drafts.append((branch, what))
        elif kind == "verdict":
            about = next((d for at, d in reversed(drafts) if list(at) == list(branch[: len(at)])), None)
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

    It may write up to `runs` programs, and then sees their output before it decides. A lost reply is UNCLEAR.
    """
    question = user(render(prompt, problem=problem.text, draft=draft, answer=answer), problem.images)
    _, opinion = yield from work(question, output_prompt, runs, role, temperature, says=decided)
    if opinion is None:
        return "UNCLEAR", ""
    decision = verdict(opinion.text)
    yield [Note("verdict", decision, role=role)]
    return decision, opinion.text


def trial(
    problem: Problem, answer: str, prompt: str, repair_prompt: str, role: str = "solver", repairs: int = 1
) -> Workflow[tuple[str, str]]:
    """Asks for a program that puts an answer back into its problem and prints True or False: (verdict, its output).

    True is CORRECT, False INCORRECT; anything else (no program, an error that stays) is UNCLEAR.
    """
    chat = user(render(prompt, problem=problem.text, answer=answer), problem.images)
    _, result = yield from develop(chat, repair_prompt, repairs, role)
    said = printed(result) if result is not None else None
    decision = {"True": "CORRECT", "False": "INCORRECT"}.get(said or "", "UNCLEAR")
    yield [Note("verdict", decision, role=role)]
    return decision, "" if result is None else result.text
