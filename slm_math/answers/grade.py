"""Grade one reply: its answer, whether the answer is correct, the reason, the grader's version."""

from __future__ import annotations

import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from slm_math.answers import pool
from slm_math.answers.choices import Choices, check_reference, in_order
from slm_math.answers.copied import copied
from slm_math.answers.decide import decide
from slm_math.answers.echoed import echoed
from slm_math.answers.equivalence import Decision
from slm_math.answers.extract import Extracted, extract
from slm_math.types import AnswerType, Problem, Task

GRADER = "4"  # increase this whenever a verdict may change


class Verdict(NamedTuple):
    """The answer of a reply and whether it is correct.

    `method` says how the answer was found (see `Extracted`). `reason` is "equal", "different", "no
    answer", "hedged", "unevaluated", "copied", "other unit", "empty" or one of `UNDECIDED`.
    Undecided answers count as incorrect; reports should show their number separately. `seconds` is
    wall time.
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
    choices: Choices = None,
    tolerance: float | str | None = None,
    *,
    last_number: bool = False,
) -> Verdict:
    """Extract the final answer of a reply and compare it with the reference answer.

    Args:
        completion: the reply, or only its answer.
        gold: the reference answer (for a worked solution with `####` or a box, see `gold_answer`).
        problem: the problem's text; an unevaluated expression copied from it is not an answer.
        answer_type: "math"; "mc" (the reference is one letter or several); "num" (a number, up to
            `tolerance`); "verdict" (CORRECT or INCORRECT).
        choices: the choices of "mc": a list in the order of their letters, a mapping of letters to
            texts, or lines that begin with letters.
        tolerance: the allowed error of "num": 0.01 is absolute, "1%" relative to the reference;
            None is exact.
        last_number: accept the last number of a reply that states no answer. Use it for lenient
            reports, never for rewards.

    Raises ValueError for an unknown answer type, an unreadable tolerance, unreadable choices, or an
    index as the reference of "mc", but never because of `completion`.
    """
    task = Task(
        Problem("", problem or "", answer_type, in_order(choices)), gold, tolerance=tolerance
    )
    return grade_reply(completion, task, last_number)


def grade_reply(reply: str, task: Task, last_number: bool = False) -> Verdict:
    """`grade` for a reply to a task."""
    start = time.perf_counter()
    extracted = extract(reply, last_number, task.problem.answer_type)
    decision = grade_extracted(extracted, task)
    return Verdict(
        correct=decision.equal,
        answer=extracted.value,
        method=extracted.method,
        reason=decision.reason,
        seconds=time.perf_counter() - start,
        grader_version=grader_version(),
    )


def grade_extracted(extracted: Extracted, task: Task) -> Decision:
    """Grade an extracted answer; an incorrect one of several alternatives is "hedged"."""
    decision = grade_answer(extracted.value, task)
    return Decision(False, "hedged") if extracted.hedged and not decision.equal else decision


def grade_answer(answer: str | None, task: Task) -> Decision:
    """Whether the text of an answer is correct. Rewards, evaluation and data filters all use it."""
    problem = task.problem
    if problem.answer_type == "mc":
        check_reference(task.gold, in_order(problem.choices))
    if answer is None:
        return Decision(False, "no answer")
    with pool.budget():
        decision = decide(
            answer=answer,
            gold=task.gold,
            answer_type=problem.answer_type,
            choices=problem.choices,
            tolerance=task.tolerance,
        )
    if (
        decision.equal
        and problem.text
        and problem.answer_type != "verdict"  # one of two words: the problem may hold both
        and (copied(answer, task.gold, problem.text) or echoed(answer, task.gold, problem.text))
    ):
        return Decision(False, "copied")
    return decision


@cache
def grader_version() -> str:
    """The versions of this grader and of math-verify, which its algebra process uses."""
    try:
        return f"{GRADER}+math-verify-{version('math-verify')}"
    except PackageNotFoundError:
        return GRADER
