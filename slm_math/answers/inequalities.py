"""Chains of comparisons, and the intervals of their solutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from slm_math.answers.arithmetic import rational
from slm_math.answers.names import VARIABLE
from slm_math.answers.values import Bag, Bracketed, Value, scalar
from slm_math.patterns import lazy_pattern

_TURNED = {">": "<", "\\ge": "\\le"}
_MODULUS = lazy_pattern(r"\| ?([a-zA-Z]) ?(?:([-+]) ?([^|]+))?\|")


def rising(sides: Sequence[str], operators: Sequence[str]) -> tuple[list[str], list[str]]:
    """The sides and operators of a chain of comparisons, in rising order: `a > b` as `b < a`.

    Other relations are returned unchanged.
    """
    if all(operator in _TURNED for operator in operators):
        return list(sides[::-1]), [_TURNED[operator] for operator in operators[::-1]]
    return list(sides), list(operators)


def interval(
    sides: list[str], operators: list[str], parse: Callable[[str], Value]
) -> Bracketed | Bag | None:
    """`2 < x \\le 7` as (2, 7], `x > 3` as (3, \\infty), `|x| < 2` as (-2, 2); None for others.

    `parse` reads the ends.
    """
    sides, operators = rising(sides, operators)
    if not all(operator in _TURNED.values() for operator in operators):
        return None
    if len(sides) == 2 and ("|" in sides[0] or "|" in sides[1]):
        return _from_modulus(sides, operators[0], parse)
    if len(sides) == 2 and VARIABLE.fullmatch(sides[0]):
        sides, operators = ["-\\infty", *sides], ["<", *operators]
    elif len(sides) == 2 and VARIABLE.fullmatch(sides[1]):
        sides, operators = [*sides, "\\infty"], [*operators, "<"]
    if len(sides) != 3 or not VARIABLE.fullmatch(sides[1]):
        return None
    return Bracketed(
        opening="(" if operators[0] == "<" else "[",
        items=(parse(sides[0]), parse(sides[2])),
        closing=")" if operators[1] == "<" else "]",
        variable=sides[1].replace(" ", ""),
    )


def _from_modulus(
    sides: list[str], operator: str, parse: Callable[[str], Value]
) -> Bracketed | Bag | None:
    """The solutions of `|x - a| < r` or `r < |x - a|` with rational a and r > 0."""
    inside = sides[0] if "|" in sides[0] else sides[1]
    modulus = _MODULUS.fullmatch(inside)
    radius = _number(sides[1] if inside is sides[0] else sides[0])
    middle = _number(modulus[3] or "0") if modulus else None
    if modulus is None or radius is None or middle is None or radius <= 0:
        return None
    middle = middle if modulus[2] == "-" else -middle
    low, high = (parse(_spelled(end)) for end in (middle - radius, middle + radius))
    name, closed = modulus[1], operator == "\\le"
    if inside is sides[0]:
        return Bracketed("[" if closed else "(", (low, high), "]" if closed else ")", name)
    below = Bracketed("(", (parse("-\\infty"), low), "]" if closed else ")", name)
    above = Bracketed("[" if closed else "(", (high, parse("\\infty")), ")", name)
    return Bag((below, above), "union")


def _number(text: str) -> Fraction | None:
    value = scalar(text)
    return rational(value.tree) if value is not None else None


def _spelled(value: Fraction) -> str:
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
