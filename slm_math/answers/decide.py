"""Compare two answers of any answer type."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import get_args

from slm_math.answers.choices import Choices, in_order, same_choice
from slm_math.answers.decisions import NO, YES, Decision
from slm_math.answers.equivalence import same
from slm_math.answers.fingerprints import fingerprint
from slm_math.answers.systems import one_line
from slm_math.answers.tolerance import compared
from slm_math.patterns import lazy_pattern
from slm_math.types import AnswerType

_INTEGER = lazy_pattern(r"0|-?[1-9][0-9]{0,14}", re.ASCII)


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
    by_print: defaultdict[Hashable, list[list[int]]] = defaultdict(list)  # of first members
    for index, answer in enumerate(answers):
        members = by_text.get(answer)
        if members is None:
            own = _fingerprint(answer, answer_type)
            known = grouped if own is None else sorted(by_print[None] + by_print[own])
            for others in known:
                if equivalent(answer, answers[others[0]], answer_type, choices):
                    members = others
                    break
            else:
                members = []
                grouped.append(members)
                by_print[own].append(members)
            by_text[answer] = members
        members.append(index)
    return grouped


def _fingerprint(answer: str, answer_type: AnswerType) -> Hashable | None:
    """What equivalent answers share, of those that have such a thing; None for all others."""
    if answer_type == "num":
        return int(answer) if _INTEGER.fullmatch(answer) else None
    return fingerprint(answer) if answer_type == "math" else None
