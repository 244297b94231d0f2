"""Unions of intervals: intervals that touch or overlap are merged."""

from __future__ import annotations

import math

from slm_math.answers.values import Bag, Bracketed, Value, Words, real

_ENDS = {"-infinity": -math.inf, "infinity": math.inf}


def joined(value: Bag | Bracketed) -> Bag | Bracketed:
    """The same set of numbers with as few intervals as possible.

    A value that is not a union of intervals is returned unchanged.
    """
    rows = value.items if isinstance(value, Bag) else (value,)
    ends = [_ends(row) for row in rows]
    if not all(isinstance(row, Bracketed) for row in rows) or None in ends:
        return value
    merged: list[Bracketed] = []
    for _, row in sorted(zip(ends, rows), key=lambda pair: pair[0] or (0.0, 0.0)):
        if merged and isinstance(row, Bracketed) and _touch(merged[-1], row):
            merged[-1] = _hull(merged[-1], row)
        elif isinstance(row, Bracketed):
            merged.append(row)
    return merged[0] if len(merged) == 1 else Bag(tuple(merged), "union")


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
    return (low, high) if low is not None and high is not None and low < high else None


def _end(value: Value) -> float | None:
    if isinstance(value, Words):
        return _ENDS.get(value.text)
    return real(value)


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
