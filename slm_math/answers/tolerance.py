"""Compare numbers up to an absolute or relative tolerance."""

from __future__ import annotations

import re
from fractions import Fraction

from slm_math.answers.arithmetic import Undefined, approximate, rational
from slm_math.answers.decisions import HARD, NO, OPEN, YES, Decision
from slm_math.answers.equivalence import MAX_ANSWER
from slm_math.answers.guards import deep
from slm_math.answers.latex import normalize
from slm_math.answers.structures import parse
from slm_math.answers.unevaluated import unevaluated
from slm_math.answers.values import Relation, Scalar, Value

_AMOUNT = re.compile(
    r"\s*([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE]([-+]?[0-9]{1,2}))?\s*(%?)\s*"
)
# everything up to the last "approximately" of an answer
_APPROXIMATE = re.compile(
    r"^.*\\approx(?![a-zA-Z])|^(?:\\text\{)?\s*(?:approximately|about|roughly)\s*\}?", re.IGNORECASE
)


def allowance(tolerance: float | str) -> tuple[Fraction, bool]:
    """(allowed error, whether it is relative to the reference): 0.01 is absolute, "1%" relative.

    Raises ValueError for anything else.
    """
    match = _AMOUNT.fullmatch(str(tolerance)) if not isinstance(tolerance, bool) else None
    if match is None:
        raise ValueError(
            f"tolerance {tolerance!r} is neither a number such as 0.01 "
            "nor a percentage such as '1%'"
        )
    amount = Fraction(f"{match[1]}e{match[2] or 0}")
    return (amount / 100, True) if match[3] else (amount, False)


def within(answer: str, gold: str, allowed: Fraction, relative: bool) -> Decision:
    """Whether two numbers differ by at most the allowed error, inclusive."""
    if len(answer) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        return HARD
    answer, gold = _APPROXIMATE.sub("", normalize(answer)), normalize(gold)
    if deep(answer) or deep(gold):
        return HARD
    a, g = _number(parse(answer)), _number(parse(gold, gold=True))
    if a is None or g is None:
        return NO
    if a.unit and g.unit and a.unit != g.unit:
        return Decision(False, "other unit")
    if unevaluated(a.tree, g.tree):
        return OPEN
    try:
        left, right = _value(a), _value(g)
    except (Undefined, OverflowError):
        return NO
    # 50% is 0.5 or 50, whichever the other one means
    answer_values = [left, left / 100] if a.percent and not g.percent else [left]
    gold_values = [right, right / 100] if g.percent and not a.percent else [right]
    is_within = any(
        abs(x - y) <= (allowed * abs(y) if relative else allowed)
        for x in answer_values
        for y in gold_values
    )
    return YES if is_within else NO


def _number(value: Value) -> Scalar | None:
    if isinstance(value, Relation) and value.name:
        value = parse(value.sides[1])
    return value if isinstance(value, Scalar) and not value.tree.names else None


def _value(number: Scalar) -> Fraction:
    """The value, exact if it is rational, so that the tolerance is inclusive.

    Raises Undefined if the number is not real.
    """
    exact = rational(number.tree)
    if exact is not None:
        return exact
    value = approximate(number.tree, {})
    if abs(value.imag) > 1e-12 * abs(value):
        raise Undefined("not real")
    return Fraction(value.real)
