"""One question for all types of answers: do these two agree?"""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.answers.choices import choose
from slm_math.answers.equivalence import Decision, same
from slm_math.answers.tolerance import allowance, within
from slm_math.types import AnswerType


def decide(
    answer: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Sequence[str] = (),
    tolerance: float | str | None = None,
) -> Decision:
    """Whether `answer` says what `gold` says, with the reason.

    `answer_type` "mc" compares letters (or the values of `choices`); "num" allows an error of
    `tolerance`: 0.01 is absolute, "1%" relative to the reference. Raises ValueError for an unknown
    type or an unreadable tolerance.
    """
    if answer_type == "math":
        return same(answer, gold)
    if answer_type == "mc":
        return choose(answer, gold, tuple(choices))
    if answer_type == "num":
        return (
            same(answer, gold) if tolerance is None else within(answer, gold, *allowance(tolerance))
        )
    raise ValueError(f"answer type {answer_type!r} is not one of math, mc, num")


def equivalent(
    answer: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Sequence[str] = (),
    tolerance: float | str | None = None,
) -> bool:
    """Whether `answer` says what `gold` says; see `decide`."""
    return decide(answer, gold, answer_type, choices, tolerance).equal


def classes(
    answers: Sequence[str], answer_type: AnswerType = "math", choices: Sequence[str] = ()
) -> list[list[int]]:
    """Indices of equivalent answers together, in the order in which each class first came; the
    first member decides.
    """
    found: list[list[int]] = []
    for index, answer in enumerate(answers):
        for members in found:
            first = answers[members[0]]
            if answer == first or equivalent(answer, first, answer_type, choices):
                members.append(index)
                break
        else:
            found.append([index])
    return found
