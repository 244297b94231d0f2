"""An exact value with its approximation, such as `10\\pi \\approx 31.4`."""

from __future__ import annotations

import re

from slm_math.answers.latex import normalize
from slm_math.answers.names import is_name
from slm_math.answers.values import MAX_LENGTH, Scalar, real, scalar
from slm_math.patterns import lazy_pattern

_NUMBER = lazy_pattern(r"^[^\d]*[\d.,]+(?:\s*\\(?:times|cdot)\s*10\^(?:\d|\{-?\d+\}))?")
_DECIMAL = lazy_pattern(r"-?\d*\.?\d+(?:\s*\\(?:times|cdot)\s*10\^(?:\d|\{-?\d+\}))?")


def without_approximations(
    sides: list[str], operators: list[str]
) -> tuple[list[str], list[str]] | None:
    """The exact part of `x = 10\\pi \\approx 31.4`; None if 31.4 is not an approximation of it.

    In `x \\approx 31.4`, it is the value of a name.
    """
    first = operators.index("\\approx")
    if len(sides) == 2 and is_name(sides[0]):
        return sides, ["="]
    if any(operator != "\\approx" for operator in operators[first:]):
        return None
    exact = scalar(sides[first])
    if exact is None or not all(_approximates(side, exact) for side in sides[first + 1 :]):
        return None
    unit = "" if exact.unit else next(filter(None, map(_unit_of, sides[first + 1 :])), "")
    return [*sides[:first], sides[first] + unit], operators[:first]


def approximates(decimal: str, exact: str) -> bool:
    """Whether a decimal such as 8.66 is an exact value, such as the root of 75, rounded to the last
    digit of the decimal. A value that is a decimal itself is not exact.
    """
    decimal, exact = normalize(decimal).strip(" ()$"), normalize(exact)
    if "." not in decimal or len(decimal) > MAX_LENGTH or _DECIMAL.fullmatch(exact):
        return False
    value = scalar(exact)
    return value is not None and _approximates(decimal, value)


def _unit_of(side: str) -> str:
    """The spelling of the unit after a decimal."""
    decimal = scalar(side)
    if decimal is None or not decimal.unit:
        return ""
    return _NUMBER.sub("", side, count=1)


def _approximates(side: str, exact: Scalar) -> bool:
    """Whether a decimal agrees with a value to its last digit, rounded or cut off."""
    decimal, value = scalar(side), real(exact)
    if decimal is None or value is None or not _DECIMAL.fullmatch(decimal.text):
        return False
    if decimal.unit and exact.unit and decimal.unit != exact.unit:
        return False
    number = real(decimal) or 0.0
    digits = re.split(r"\\", decimal.text)[0].strip()
    mantissa = float(digits) or 1.0
    step = 10.0 ** -len(digits.partition(".")[2]) * abs(number / mantissa if number else 1.0)
    error, slack = abs(number) - abs(value), step * 1e-9
    if number * value < 0:
        return False
    return abs(error) <= step / 2 + slack or -step + slack < error <= 0  # rounded, or cut off
