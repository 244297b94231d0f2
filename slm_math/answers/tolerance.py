"""Numbers that need not be exact: an absolute or a relative error is allowed, explicitly."""

from __future__ import annotations

import re
from fractions import Fraction

from slm_math.answers.arithmetic import Undefined, approximate, rational
from slm_math.answers.equivalence import HARD, MAX_ANSWER, NO, OPEN, YES, Decision
from slm_math.answers.guards import deep
from slm_math.answers.latex import normalize
from slm_math.answers.structures import parse
from slm_math.answers.unevaluated import unevaluated
from slm_math.answers.values import Relation, Scalar, Value

_AMOUNT = re.compile(
    r"\s*([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE]([-+]?[0-9]{1,2}))?\s*(%?)\s*"
)
# of an answer that need not be exact, what stands before its last "approximately"
_APPROXIMATE = re.compile(
    r"^.*\\approx(?![a-zA-Z])|^(?:\\text\{)?\s*(?:approximately|about|roughly)\s*\}?", re.IGNORECASE
)


def allowance(tolerance: float | str) -> tuple[Fraction, bool]:
    """(allowed error, whether it is relative to the reference): 0.01 is absolute, "1%" relative.

    Raises ValueError for anything else.
    """
    found = _AMOUNT.fullmatch(str(tolerance)) if not isinstance(tolerance, bool) else None
    if found is None:
        raise ValueError(
            f"tolerance {tolerance!r} is neither a number such as 0.01 nor a percentage such as "
            f"'1%'"
        )
    amount = Fraction(f"{found[1]}e{found[2] or 0}")
    return (amount / 100, True) if found[3] else (amount, False)


def within(answer: str, gold: str, allowed: Fraction, relative: bool) -> Decision:
    """Whether two numbers differ by at most the allowed error; its border counts as inside."""
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
    # 50% is 0.5 or 50, whichever the reference means
    readings = [left, left / 100] if a.percent and not g.percent else [left]
    wanted = [right, right / 100] if g.percent and not a.percent else [right]
    return (
        YES
        if any(
            abs(x - y) <= (allowed * abs(y) if relative else allowed)
            for x in readings
            for y in wanted
        )
        else NO
    )


def _number(value: Value) -> Scalar | None:
    if isinstance(value, Relation) and value.name:
        value = parse(value.sides[1])
    return value if isinstance(value, Scalar) and not value.tree.names else None


def _value(number: Scalar) -> Fraction:
    """Exactly where it is rational, so that a border is met. Raises Undefined."""
    exact = rational(number.tree)
    if exact is not None:
        return exact
    value = approximate(number.tree, {})
    if abs(value.imag) > 1e-12 * abs(value):
        raise Undefined("not real")
    return Fraction(value.real)
