"""Numbers as words, up to ninety-nine, and parts."""

from __future__ import annotations

from fractions import Fraction

UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8}


def number_word(text: str) -> Fraction | None:
    """The number that a text spells, such as "twenty-one" or "one half"; None for other texts."""
    first, _, second = text.replace("-", " ").partition(" ")
    if first in TENS:
        tens = 10 * (TENS.index(first) + 2)
        if not second:
            return Fraction(tens)
        return Fraction(tens + UNITS.index(second)) if second in UNITS[1:10] else None
    if first not in UNITS:
        return None
    count = UNITS.index(first)
    if not second:
        return Fraction(count)
    part = _PARTS.get(second) or _PARTS.get(second.removesuffix("s"))
    return Fraction(count, part) if part and 0 < count < part else None
