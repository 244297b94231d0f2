"""Conditions on one variable, such as `x < 1 or x = 2`, as sets of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slm_math.answers.intervals import intersection, point, region, union
from slm_math.answers.values import Bag, Bracketed, Relation, Value, Words, real
from slm_math.patterns import lazy_pattern

_OR = lazy_pattern(r"(?<![a-zA-Z])or(?![a-zA-Z])")
_AND = lazy_pattern(r"(?<![a-zA-Z])and(?![a-zA-Z])")


def combined(
    items: Sequence[Value], between: Sequence[str], parse: Callable[[str], Value]
) -> Value | None:
    """The set that conditions describe together; None for other items.

    "or" joins more loosely than "and". A comma means "and", but "or" where nothing would be left:
    no number fulfills both of x < -2, x > 3. `parse` reads the values of x = 2.
    """
    found = [_condition(item, parse) for item in items]
    rows = [part for part in found if part is not None]
    names = {row.variable for part in rows for row in part}
    if len(rows) < len(items) or len(names) != 1 or names == {""}:
        return _symbolic(items, between)
    if all(isinstance(item, Relation) for item in items):
        return None
    groups = [rows[:1]]
    for separator, part in zip(between, rows[1:]):
        if _OR.search(separator):
            groups.append([part])
        else:
            groups[-1].append(part)
    if len(groups) == 1 and not any(map(_AND.search, between)):
        common = _all_of(groups[0])
        return (
            union(common) if common else Bag(tuple(row for part in rows for row in part), "union")
        )
    return union([row for group in groups for row in _all_of(group)])


def _condition(item: Value, parse: Callable[[str], Value]) -> list[Bracketed] | None:
    if isinstance(item, Relation) and item.name:
        value = parse(item.sides[1])
        return [point(value, item.name)] if real(value) is not None else None
    rows = region(item)
    return rows if rows and all(row.variable for row in rows) else None


def _all_of(parts: Sequence[list[Bracketed]]) -> list[Bracketed]:
    common = parts[0]
    for part in parts[1:]:
        common = intersection(common, part)
    return common


def _symbolic(items: Sequence[Value], between: Sequence[str]) -> Value | None:
    """`x > a and x < b` as an interval whose ends are no numbers."""
    rows = [item for item in items if isinstance(item, Bracketed) and item.variable]
    if len(rows) != len(items) or len({row.variable for row in rows}) > 1:
        return None
    if any(map(_OR.search, between)):
        return Bag(tuple(rows), "union")
    above = [row for row in rows if row.items[1] == Words("infinity")]
    below = [row for row in rows if row.items[0] == Words("-infinity")]
    if len(above) != 1 or len(below) != 1 or len(rows) != 2:
        return None
    ends = (above[0].items[0], below[0].items[1])
    return Bracketed(above[0].opening, ends, below[0].closing, rows[0].variable)
