"""Unions of intervals: parts that touch or overlap are one."""

from __future__ import annotations

import math

from slm_math.answers.values import Bag, Row, Value, Words, real

_ENDS = {"-infinity": -math.inf, "infinity": math.inf}


def joined(value: Bag | Row) -> Bag | Row:
    """The same set of numbers with as few intervals as possible; what is no union of intervals is
    returned as it is.
    """
    rows = value.items if isinstance(value, Bag) else (value,)
    ends = [_ends(row) for row in rows]
    if not all(isinstance(row, Row) for row in rows) or None in ends:
        return value
    merged: list[Row] = []
    for _, row in sorted(zip(ends, rows), key=lambda pair: pair[0] or (0.0, 0.0)):
        if merged and isinstance(row, Row) and _touch(merged[-1], row):
            merged[-1] = _hull(merged[-1], row)
        elif isinstance(row, Row):
            merged.append(row)
    return merged[0] if len(merged) == 1 else Bag(tuple(merged), "union")


def _ends(row: Value) -> tuple[float, float] | None:
    """The two ends of an interval as numbers; None when this is none, or when they
    are not known.
    """
    if (
        not isinstance(row, Row)
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


def _touch(left: Row, right: Row) -> bool:
    """Whether two intervals, `left` starting first, have a common point or a common end that one of
    them holds.
    """
    (_, high), (low, _) = _ends(left) or (0.0, 0.0), _ends(right) or (0.0, 0.0)
    return low < high or (low == high and (left.closing == "]" or right.opening == "["))


def _hull(left: Row, right: Row) -> Row:
    (low, high), (low_2, high_2) = _ends(left) or (0.0, 0.0), _ends(right) or (0.0, 0.0)
    opening = "[" if low == low_2 and "[" in (left.opening, right.opening) else left.opening
    last = max(
        (high, left.closing == "]", left),
        (high_2, right.closing == "]", right),
        key=lambda end: end[:2],
    )[2]
    return Row(opening, (left.items[0], last.items[1]), last.closing, left.variable)
