"""Compare two answers of any answer type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from slm_math.answers.choices import Choices, in_order, same_choice
from slm_math.answers.decisions import NO, YES, Decision
from slm_math.answers.equivalence import same
from slm_math.answers.systems import one_line
from slm_math.answers.tolerance import compared
from slm_math.types import AnswerType

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}", re.ASCII)


def decide(
    answer: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Choices = (),
    tolerance: float | str | None = None,
) -> Decision:
    """Whether `answer` is equivalent to `gold`, with the reason.

    `answer_type` "mc" compares letters (or the values of `choices`); "num" allows an error of
    `tolerance`: 0.01 is absolute, "1%" relative to the reference; "verdict" compares CORRECT and
    INCORRECT. Raises ValueError for an unknown answer type or an unreadable tolerance.
    """
    answer, gold = one_line(answer), one_line(gold)
    if answer_type == "math":
        return same(answer, gold)
    if answer_type == "mc":
        return same_choice(answer, gold, in_order(choices))
    if answer_type == "num":
        return compared(answer, gold, tolerance)
    if answer_type == "verdict":
        return YES if answer == gold else NO
    raise ValueError(f"answer type {answer_type!r} is not one of {', '.join(get_args(AnswerType))}")


def equivalent(
    answer: str,
    gold: str,
    answer_type: AnswerType = "math",
    choices: Choices = (),
    tolerance: float | str | None = None,
) -> bool:
    """Whether `answer` is equivalent to `gold`; see `decide`."""
    decision = decide(
        answer=answer, gold=gold, answer_type=answer_type, choices=choices, tolerance=tolerance
    )
    return decision.equal


def classes(
    answers: Sequence[str], answer_type: AnswerType = "math", choices: Choices = ()
) -> list[list[int]]:
    """The indices of equivalent answers, class by class, in the order of their first members.

    An answer belongs to the first class whose first member it is equivalent to.
    """
    grouped: list[list[int]] = []
    by_text: dict[str, list[int]] = {}  # equal texts are equivalent to the same first members
    others: list[list[int]] = []  # classes whose first members are no plain integers
    for index, answer in enumerate(answers):
        members = by_text.get(answer)
        if members is None:
            is_integer = answer_type in ("math", "num") and _INTEGER.fullmatch(answer) is not None
            # different plain integers are never equivalent
            for known in others if is_integer else grouped:
                if equivalent(answer, answers[known[0]], answer_type, choices):
                    members = known
                    break
            else:
                members = []
                grouped.append(members)
                if not is_integer:
                    others.append(members)
            by_text[answer] = members
        members.append(index)
    return grouped
