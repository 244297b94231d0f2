"""Put a comparison to the algebra process, where the exact rules cannot decide."""

from __future__ import annotations

from slm_math.answers import pool
from slm_math.answers.decisions import HARD, NO, YES, Decision
from slm_math.answers.expressions import Unread, read
from slm_math.answers.guards import hostile
from slm_math.patterns import lazy_pattern

# the reasons of undecided answers: counted as incorrect and reported separately
UNDECIDED = frozenset(("too complex", *pool.FAILURES, "unread"))
_CAPITALS = lazy_pattern(r"\\[A-Z][a-z]+")  # math-verify's grammar reads \Delta as \delta
_DEGREES = lazy_pattern(r"(\d+\.?\d*)\s*°")


class Failed(Exception):
    """The algebra process ended or ran out of time.

    This is a failure of the machine, not of the answer: it must not be remembered.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def ask(kind: str, answer: str, gold: str) -> Decision:
    """Query the algebra process, unless an expression looks made to keep it busy."""
    if answer.replace(" ", "") == gold.replace(" ", ""):
        return YES
    readable = _is_read(answer) and _is_read(gold)
    if not readable:
        if "\\text" in answer or set(_CAPITALS.findall(answer)) != set(_CAPITALS.findall(gold)):
            return NO
        if hostile(answer) or hostile(gold):
            return HARD
        answer, gold = (
            _DEGREES.sub(r"(\1\\cdot\\frac{\\pi}{180})", text) for text in (answer, gold)
        )
    reply = pool.query(kind, answer, gold)
    if reply in pool.FAILURES:
        raise Failed(reply)
    if reply == "steps" or (reply == "unread" and readable):
        return HARD
    return YES if reply == "yes" else NO if reply == "no" else Decision(False, reply)


def _is_read(text: str) -> bool:
    try:
        read(text, spelled=True)
    except Unread:
        return False
    return True
