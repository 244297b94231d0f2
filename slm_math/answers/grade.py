"""The verdict on one reply: what it answered, whether that is right, why, and by which grader."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from slm_math.answers.equivalence import Decision, decide
from slm_math.answers.extract import extract
from slm_math.answers.latex import normalise
from slm_math.types import AnswerType

GRADER = "1"  # raise whenever any verdict may change
_OPERATION = re.compile(r"\d\s*(?:[-+*/^]|\\cdot|\\times|\\div)|\\(?:sqrt|sin|cos|tan|log|binom)|!")


@dataclass(frozen=True)
class Verdict:
    """`reason` is "equal" for a right answer, else one of a few words ("different", "no answer", "timeout", ...)."""

    correct: bool
    answer: str | None
    method: str
    reason: str
    seconds: float
    grader_version: str


def grade(
    completion: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Sequence[str] = (),
    tolerance: float | None = None,
    *,
    problem: str = "",
    last_number: bool = False,
) -> Verdict:
    """Extract the final answer of a reply and compare it with the reference answer.

    `problem` is the problem's text: an expression copied from it, with its operations undone, is not an answer.
    """
    start = time.perf_counter()
    found = extract(completion, last_number)
    decision = judge(found.value, gold, answer_type, choices, tolerance, problem)
    if found.hedged and not decision.equal:
        decision = Decision(False, "hedged")
    seconds = time.perf_counter() - start
    return Verdict(decision.equal, found.value, found.method, decision.reason, seconds, grader_version())


def judge(
    answer: str | None,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Sequence[str] = (),
    tolerance: float | None = None,
    problem: str = "",
) -> Decision:
    """Is an answer that was extracted already right? The one rule behind rewards, evaluation and data filters."""
    if answer is None:
        return Decision(False, "no answer")
    decision = decide(answer, gold, answer_type, tuple(choices), tolerance)
    if decision.equal and problem and _copied(normalise(answer), normalise(gold), normalise(problem)):
        return Decision(False, "copied")
    return decision


def _copied(answer: str, gold: str, problem: str) -> bool:
    answer, gold, problem = (text.replace(" ", "") for text in (answer, gold, problem))
    return answer != gold and bool(_OPERATION.search(answer)) and answer in problem and gold not in problem


@cache
def grader_version() -> str:
    """This grader's version and that of the algebra behind it."""
    try:
        return f"{GRADER}+math-verify-{version('math-verify')}"
    except PackageNotFoundError:
        return GRADER
