"""The verdict on one reply: what it answered, whether that is right, why, and by which grader."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from slm_math.answers import pool
from slm_math.answers.copied import copied
from slm_math.answers.decide import decide
from slm_math.answers.equivalence import Decision
from slm_math.answers.extract import Extracted, extract
from slm_math.types import AnswerType, Problem, Task

GRADER = "2"  # raise whenever any verdict may change


@dataclass(frozen=True)
class Verdict:
    """What a reply answered and whether that is right.

    `method` says where the answer stood (see `extract`), `reason` why it is right or not: "equal",
    "different", "no answer", "hedged", "unevaluated", "copied", "other unit", "empty", or one of
    `UNDECIDED`, for which nobody knows: they count as not correct, and are to be counted aloud.
    `seconds` is wall time.
    """

    correct: bool
    answer: str | None
    method: str
    reason: str
    seconds: float
    grader_version: str


def grade(
    completion: str,
    gold: str,
    problem: str | None = None,
    answer_type: AnswerType = "math",
    choices: Sequence[str] | None = None,
    tolerance: float | str | None = None,
    *,
    last_number: bool = False,
) -> Verdict:
    """Find the final answer of a reply and compare it with the reference answer; a bare answer is a
    reply, too.

    Args:
        completion: the reply, or only its answer.
        gold: the reference answer (for a rationale with `####` or a box, see `gold_answer`).
        problem: the problem's text: an expression copied from it, with its operations undone, is
            not an answer.
        answer_type: "math"; "mc" (the gold is a letter, or several); "num" (a number, up to
            `tolerance`).
        choices: of "mc", in the order of their letters.
        tolerance: of "num": 0.01 is absolute, "1%" relative to the gold; None is exact.
        last_number: accept the last number of a reply that states no answer; for lenient reports,
            never for rewards.

    Raises ValueError for an unknown answer type or an unreadable tolerance, never because of
    `completion` or `gold`.
    """
    start = time.perf_counter()
    task = Task(
        Problem("", problem or "", answer_type, tuple(choices or ())), gold, tolerance=tolerance
    )
    found = extract(completion, last_number)
    decision = judged(found, task)
    seconds = time.perf_counter() - start
    return Verdict(
        decision.equal, found.value, found.method, decision.reason, seconds, grader_version()
    )


def judged(found: Extracted, task: Task) -> Decision:
    """`judge` for an answer with the marks of its extraction."""
    decision = judge(found.value, task)
    return Decision(False, "hedged") if found.hedged and not decision.equal else decision


def judge(answer: str | None, task: Task) -> Decision:
    """Is an answer that was extracted already right? The one rule behind rewards, evaluation and
    data filters.
    """
    if answer is None:
        return Decision(False, "no answer")
    problem = task.problem
    with pool.budget():
        decision = decide(answer, task.gold, problem.answer_type, problem.choices, task.tolerance)
    if decision.equal and problem.text and copied(answer, task.gold, problem.text):
        return Decision(False, "copied")
    return decision


@cache
def grader_version() -> str:
    """This grader's version and that of the algebra behind it."""
    try:
        return f"{GRADER}+math-verify-{version('math-verify')}"
    except PackageNotFoundError:
        return GRADER
