"""Sets of real numbers: unions, intersections and differences of intervals and points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from slm_math.answers.values import Bag, Bracketed, Value, Words, real

_ENDS = {"-infinity": -math.inf, "infinity": math.inf}
_LOWEST, _HIGHEST = Words("-infinity"), Words("infinity")


def joined(value: Bag | Bracketed) -> Bag | Bracketed:
    """The same set of numbers with as few intervals as possible; points alone as a set.

    A value that is not a union of intervals is returned unchanged.
    """
    rows = region(value)
    return value if rows is None else union(rows)


def region(value: Value) -> list[Bracketed] | None:
    """The intervals of a set of real numbers, points as [a, a]; None for other values."""
    if isinstance(value, Bracketed):
        return [value] if _ends(value) else None
    if not isinstance(value, Bag) or value.kind == "list":
        return None
    rows: list[Bracketed] = []
    for item in value.items:
        part = [point(item)] if value.kind == "set" and real(item) is not None else region(item)
        if part is None:
            return None
        rows += part
    return rows


def point(value: Value, variable: str = "") -> Bracketed:
    return Bracketed("[", (value, value), "]", variable)


def union(rows: Sequence[Bracketed]) -> Bag | Bracketed:
    """The union of intervals with known ends."""
    merged: list[Bracketed] = []
    for row in sorted(rows, key=lambda row: (_ends(row) or (0.0, 0.0), row.opening == "(")):
        if merged and _touch(merged[-1], row):
            merged[-1] = _hull(merged[-1], row)
        else:
            merged.append(row)
    if all(_is_point(row) for row in merged):
        return Bag(tuple(row.items[0] for row in merged), "set")
    return merged[0] if len(merged) == 1 else Bag(tuple(merged), "union")


def intersection(left: Sequence[Bracketed], right: Sequence[Bracketed]) -> list[Bracketed]:
    return [row for a in left for g in right if (row := _common(a, g)) is not None]


def difference(left: Sequence[Bracketed], right: Sequence[Bracketed]) -> list[Bracketed]:
    """The numbers of `left` that are not in `right`."""
    rows = list(left)
    for gap in right:
        low, high = gap.items
        below = Bracketed("(", (_LOWEST, low), ")" if gap.opening == "[" else "]", gap.variable)
        above = Bracketed("(" if gap.closing == "]" else "[", (high, _HIGHEST), ")", gap.variable)
        rows = intersection(rows, [side for side in (below, above) if _ends(side)])
    return rows


def _ends(row: Value) -> tuple[float, float] | None:
    """The two ends of an interval as numbers; None if `row` is no interval or an end is unknown."""
    if (
        not isinstance(row, Bracketed)
        or len(row.items) != 2
        or row.opening not in "(["
        or row.closing not in ")]"
    ):
        return None
    low, high = _end(row.items[0]), _end(row.items[1])
    if low is None or high is None or low > high:
        return None
    return (low, high) if low < high or (row.opening, row.closing) == ("[", "]") else None


def _end(value: Value) -> float | None:
    if isinstance(value, Words):
        return _ENDS.get(value.text)
    return real(value)


def _is_point(row: Bracketed) -> bool:
    low, high = _ends(row) or (0.0, 1.0)
    return low == high


def _touch(left: Bracketed, right: Bracketed) -> bool:
    """Whether the union of two intervals is one interval; `left` starts first."""
    (_, high), (low, _) = _ends(left) or (0.0, 0.0), _ends(right) or (0.0, 0.0)
    return low < high or (low == high and (left.closing == "]" or right.opening == "["))


def _hull(left: Bracketed, right: Bracketed) -> Bracketed:
    """The union of two intervals that touch."""
    (low, high), (low_2, high_2) = _ends(left) or (0.0, 0.0), _ends(right) or (0.0, 0.0)
    opening = "[" if low == low_2 and "[" in (left.opening, right.opening) else left.opening
    last = max(
        (high, left.closing == "]", left),
        (high_2, right.closing == "]", right),
        key=lambda end: end[:2],
    )[2]
    return Bracketed(opening, (left.items[0], last.items[1]), last.closing, left.variable)


def _common(left: Bracketed, right: Bracketed) -> Bracketed | None:
    """The intersection of two intervals; None if it is empty."""
    (low, high), (low_2, high_2) = _ends(left) or (0.0, 0.0), _ends(right) or (0.0, 0.0)
    first = max(
        (low, left.opening == "(", left), (low_2, right.opening == "(", right), key=lambda x: x[:2]
    )[2]
    last = min(
        (high, left.closing == "]", left), (high_2, right.closing == "]", right),
        key=lambda x: x[:2],
    )[2]  # fmt: skip
    row = Bracketed(
        first.opening,
        (first.items[0], last.items[1]),
        last.closing,
        left.variable or right.variable,
    )
    return row if _ends(row) else None


def named(value: Bag | Bracketed, variable: str) -> Bag | Bracketed:
    """The same set of numbers as the values of a variable."""
    if isinstance(value, Bracketed):
        return replace(value, variable=variable)
    rows = (replace(i, variable=variable) if isinstance(i, Bracketed) else i for i in value.items)
    return replace(value, items=tuple(rows))
