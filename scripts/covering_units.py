"""Parts of truth.py: problems that are instances of templates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from covering import (
    ACCURACIES,
    HALF,
    SPREADS,
    Coverage,
    counted,
    differences,
    measured,
    probabilities,
    two,
)

from slm_math.metrics.intervals import pooled

TEMPLATES = ((20, 5), (20, 50), (100, 5), (100, 50), (100, 0))  # and instances; 0: 1 to 8


def instances(size: int, n: int, draws: int, draw: Any) -> np.ndarray:
    """How many each of n templates has, (draws, n)."""
    return draw.integers(1, 9, (draws, n)) if not size else np.full((draws, n), size)


def templates(draws: int) -> Iterator[Coverage]:
    """The accuracy on instances of templates, which have a probability each."""
    draw = np.random.default_rng(7)
    for n, size in TEMPLATES:
        for p in ACCURACIES:
            for spread in SPREADS[:3]:
                sizes = instances(size, n, draws, draw)
                right = draw.binomial(sizes, probabilities(p, spread, (draws, n), draw))
                ends = (pooled(*each) for each in zip(right.tolist(), sizes.tolist()))
                name = f"n {n}, p {p}, {size or '1 to 8'} instances, spread {spread}"
                yield measured("templates", name, p, ends)


def templates_of_two(draws: int) -> Iterator[Coverage]:
    """The difference of two runs on instances of templates, which differ in how much they gain
    ("drift"), or of which a third are other ones to the second run ("turnover").
    """
    draw = np.random.default_rng(8)
    for n, size in TEMPLATES:
        for p in HALF:
            for spread in SPREADS[:3]:
                for kind in ("drift", "turnover"):
                    own, better = two(p, spread, kind, draw)
                    kinds = [
                        (changes * each, np.full(len(changes), each), chances)
                        for each in ((size,) if size else range(1, 9))
                        for changes, chances in [differences(own, better, each)]
                    ]
                    sums, sizes, chances = (np.concatenate(some) for some in zip(*kinds))
                    truth = float((better - own).mean())
                    ends = counted(sums, sizes, chances, n, draws=draws, draw=draw)
                    name = f"n {n}, p {p}, {size or '1 to 8'} instances, spread {spread}, {kind}"
                    yield measured("templates, two runs", name, truth, ends)
