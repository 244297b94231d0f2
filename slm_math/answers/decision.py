"""What a comparison decided and why, and the question to the algebra process."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slm_math.answers import pool
from slm_math.answers.guards import hostile

# the reasons of undecided answers: counted as incorrect and reported separately
UNDECIDED = frozenset(("too complex", *pool.FAILURES, "unread"))
_CAPITALS = re.compile(r"\\[A-Z][a-z]+")  # math-verify's grammar reads \Delta as \delta
_DEGREES = re.compile(r"(\d+\.?\d*)\s*°")


@dataclass(frozen=True)
class Decision:
    """Whether two answers are equivalent, and the reason.

    The reasons are a few fixed phrases, so that they can be counted (see `Verdict`).
    """

    equal: bool
    reason: str


YES, NO = Decision(True, "equal"), Decision(False, "different")
OPEN, HARD = Decision(False, "unevaluated"), Decision(False, "too complex")


class Died(Exception):
    """The algebra process ended before it replied."""


def hard(kind: str, answer: str, gold: str) -> Decision:
    """Query the algebra process, unless an expression looks made to keep it busy."""
    if answer.replace(" ", "") == gold.replace(" ", ""):
        return YES
    if "\\text" in answer or set(_CAPITALS.findall(answer)) != set(_CAPITALS.findall(gold)):
        return NO
    if hostile(answer) or hostile(gold):
        return HARD
    reply = pool.query(
        kind, *(_DEGREES.sub(r"(\1\\cdot\\frac{\\pi}{180})", text) for text in (answer, gold))
    )
    if reply == "died":
        raise Died
    return YES if reply == "yes" else NO if reply == "no" else Decision(False, reply)
