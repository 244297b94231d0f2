"""Compare numbers up to an absolute or relative tolerance."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from slm_math.answers.arithmetic import Undefined, approximate, rational
from slm_math.answers.decisions import HARD, NO, OPEN, YES, Decision
from slm_math.answers.equivalence import MAX_ANSWER, same
from slm_math.answers.guards import deep
from slm_math.answers.latex import normalize
from slm_math.answers.structures import parse
from slm_math.answers.unevaluated import unevaluated
from slm_math.answers.values import Relation, Scalar, Value, Words
from slm_math.patterns import lazy_pattern

_AMOUNT = lazy_pattern(
    r"\s*(?:±|\+/?-)?\s*([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE]([-+]?[0-9]{1,3}))?"
    r"\s*(\\?%|percent)?\s*"
)
_NAN = lazy_pattern(r"[-+]?(?:\\text\{)?\s*nan\s*\}?", re.IGNORECASE)
# everything up to the last "approximately" of an answer
_APPROXIMATE = lazy_pattern(
    r"^.*\\approx(?![a-zA-Z])|^(?:\\text\{)?\s*(?:approximately|about|roughly)\s*\}?", re.IGNORECASE
)

_INFINITIES = (Words("infinity"), Words("-infinity"))


def allowance(tolerance: float | str | Fraction | Decimal) -> tuple[Fraction, bool]:
    """(allowed error, whether it is relative to the reference): 0.01 is absolute, "1%" relative.

    "0.01", "±0.01", "1 %" and fractions are the same numbers. Raises ValueError for anything else,
    also for negative numbers, infinity and NaN.
    """
    if isinstance(tolerance, Fraction) and tolerance >= 0:
        return tolerance, False
    match = _AMOUNT.fullmatch(str(tolerance)) if not isinstance(tolerance, bool) else None
    if match is None:
        raise ValueError(
            f"tolerance {tolerance!r} is neither a number of at least 0, such as 0.01, "
            "nor a percentage such as '1%'; for exact answers leave it out"
        )
    amount = Fraction(f"{match[1]}e{match[2] or 0}")
    return (amount / 100, True) if match[3] else (amount, False)


def compared(answer: str, gold: str, tolerance: float | str | None) -> Decision:
    """Whether two numbers are equal up to a tolerance; None is exact. NaN equals nothing."""
    limits = None if tolerance is None else allowance(tolerance)
    if len(gold) < MAX_ANSWER and _NAN.fullmatch(normalize(gold)):
        return NO
    return same(answer, gold) if limits is None else within(answer, gold, *limits)


def within(answer: str, gold: str, allowed: Fraction, relative: bool) -> Decision:
    """Whether two numbers differ by at most the allowed error, inclusive."""
    if len(answer) > MAX_ANSWER or len(gold) > MAX_ANSWER:
        return HARD
    answer, gold = _APPROXIMATE.sub("", normalize(answer)), normalize(gold)
    if deep(answer) or deep(gold):
        return HARD
    values = parse(answer), parse(gold, gold=True)
    if values[0] == values[1] and values[0] in _INFINITIES:
        return YES
    a, g = map(_number, values)
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
