"""Quantities in several units, such as `2 hours 30 minutes`, as one number in one unit."""

from __future__ import annotations

from fractions import Fraction

from slm_math.answers.expressions import Node
from slm_math.answers.units import canonical
from slm_math.answers.values import Scalar, Value
from slm_math.patterns import lazy_pattern

# how many of the next smaller unit one unit holds
_CHAINS = (
    (("week", 7), ("day", 24), ("hour", 60), ("minute", 60), ("second", 1)),
    (("year", 12), ("month", 1)),
    (("yard", 3), ("foot", 12), ("inch", 1)),
    (("pound weight", 16), ("ounce", 1)),
    (("kilometre", 1000), ("metre", 100), ("centimetre", 10), ("millimetre", 1)),
    (("kilogram", 1000), ("gram", 1)),
    (("dollar", 100), ("cent", 1)),
)
_PART = lazy_pattern(
    r"\s*(?:,|and |\\text\{\s*,?\s*and\s*\})?\s*(\d+(?:\.\d+)?)\s*"
    r"(?:\\text\{\s*([a-zA-Z.]+)\s*(?:,|and|,\s*and)?\s*\}|([a-zA-Z.]+))"
)
_ANGLE = lazy_pattern(r"(-?)(\d+)°\s*(\d{1,2}(?:\.\d+)?)'(?:\s*(\d{1,2}(?:\.\d+)?)(?:''|\"))?")


def compound(text: str, gold: bool = False) -> Value | None:
    """A quantity in two or more units of one kind in the smallest of them; None for other texts.

    An angle in degrees and minutes is read in degrees. `gold` changes nothing.
    """
    if "°" in text and (angle := _ANGLE.fullmatch(text)):
        value = Fraction(angle[2]) + Fraction(angle[3]) / 60 + Fraction(angle[4] or 0) / 3600
        return _scalar(-value if angle[1] else value, "degree")
    if not text[:1].isdigit():
        return None
    parts: list[tuple[Fraction, str]] = []
    at = 0
    while at < len(text):
        part = _PART.match(text, at)
        unit = canonical(part[2] or part[3]) if part else ""
        if part is None or not unit:
            return None
        parts.append((Fraction(part[1]), unit))
        at = part.end()
    return _total(parts) if len(parts) > 1 else None


def _total(parts: list[tuple[Fraction, str]]) -> Value | None:
    for chain in _CHAINS:
        names = [name for name, _ in chain]
        if not all(unit in names for _, unit in parts):
            continue
        places = [names.index(unit) for _, unit in parts]
        if places != sorted(set(places)):
            return None
        total = Fraction(0)
        for place, (_, size) in enumerate(chain[: places[-1] + 1]):
            if place in places:
                total += parts[places.index(place)][0]
            if place < places[-1]:
                total *= size
        return _scalar(total, names[places[-1]])
    return None


def _scalar(value: Fraction, unit: str) -> Scalar:
    return Scalar(Node("number", value=value, name=str(value)), str(value), unit=f"{unit}^1")
