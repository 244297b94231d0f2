"""The points at which expressions are compared."""

from __future__ import annotations

import random


def integer_points(names: frozenset[str]) -> list[dict[str, int]]:
    """Four fixed random integer points of both signs.

    Two rational functions that agree at all of them are taken as equal.
    """
    draw = random.Random(20)
    ordered = sorted(names)
    sizes = [{name: draw.randint(1_000, 99_999) for name in ordered} for _ in range(4)]
    return [
        {
            name: size if (j >> (i % 2)) & 1 else -size
            for i, (name, size) in enumerate(point.items())
        }
        for j, point in enumerate(sizes)
    ]


def real_points(names: frozenset[str]) -> list[dict[str, float]]:
    """Eight fixed points near 1, some of them integers.

    They cover all combinations of signs of three variables.
    """
    sizes = (0.83, 1.27, 2.39, 3.0, 4.0, 0.31, 1.91, 2.0)
    return [
        {
            name: (-1.0 if (j >> (i % 3)) & 1 else 1.0) * (size + 0.61 * i)
            for i, name in enumerate(sorted(names))
        }
        for j, size in enumerate(sizes)
    ]
