"""Checks of an answer, by a verifier that may run programs or by a program alone; and which draft
a verdict is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from slm_math.agents.coding import program_answer, reply_with_tools, write_program
from slm_math.answers.verdicts import marked_verdict, verdict
from slm_math.prompts import Prompt
from slm_math.types import Note, Problem, Workflow

T = TypeVar("T")
DECISIONS = {"True": "CORRECT", "False": "INCORRECT"}  # by what a check program prints


def reviewed(notes: Iterable[tuple[str, Sequence[int], T]]) -> Iterator[tuple[T, T]]:
    """Pairs of a draft or candidate and a verdict on it, in the order of the verdicts.

    `notes` are (kind, branch, value), and the pairs hold the values. A verdict is about the last
    draft or candidate of its own branch, or of a branch that its own branch comes from.
    """
    drafts: list[tuple[Sequence[int], T]] = []
    for kind, branch, value in notes:
        if kind in ("draft", "candidate"):
            drafts.append((branch, value))
        elif kind == "verdict":
            for draft_branch, draft in reversed(drafts):
                if list(draft_branch) == list(branch[: len(draft_branch)]):
                    yield draft, value
                    break


def ask_verifier(
    problem: Problem,
    draft: str,
    answer: str,
    *,
    prompt: Prompt,
    output_prompt: Prompt,
    role: str = "verifier",
    runs: int = 1,
    temperature: float | None = None,
) -> Workflow[tuple[str, str]]:
    """Asks `role` whether the answer of a draft is right. Returns its verdict and its last reply.

    The role may write up to `runs` programs, and sees their output before it decides. The verdict
    of an unusable reply is UNCLEAR, with an empty text.

    Args:
        prompt: a prompt with the slots problem, draft and answer.
        output_prompt: shows the output of a program.
    """
    _, reply = yield from reply_with_tools(
        problem.ask(prompt, draft=draft, answer=answer),
        output_prompt,
        runs,
        role=role,
        temperature=temperature,
        is_complete=marked_verdict,
    )
    if reply is None:
        return "UNCLEAR", ""
    decision = verdict(reply.text)
    yield [Note("verdict", decision, role=role)]
    return decision, reply.text


def run_check_program(
    problem: Problem,
    answer: str,
    *,
    prompt: Prompt,
    repair_prompt: Prompt,
    role: str = "solver",
    repairs: int = 1,
) -> Workflow[tuple[str, str]]:
    """Asks for a program that puts an answer back into its problem and prints True or False.
    Returns the verdict and the program's output.

    True is CORRECT, False INCORRECT. Anything else is UNCLEAR: no program, an error that remains
    after `repairs`, an unusable reply.
    """
    chat = problem.ask(prompt, answer=answer)
    _, run = yield from write_program(chat, repair_prompt, repairs, role=role)
    if run is None:
        return "UNCLEAR", ""
    value = run.result.value.strip() if run.result.ok else ""
    outcome = value if value in DECISIONS else program_answer(run)
    decision = DECISIONS.get(outcome or "", "UNCLEAR")
    yield [Note("verdict", decision, role=role)]
    return decision, run.result.text
