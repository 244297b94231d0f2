"""Parts of truth.py: problems that are instances of templates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from covering import ACCURACIES, HALF, SPREADS, Coverage, measured, probabilities

from slm_math.metrics.differences import clustered_interval
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
                    sizes = instances(size, n, draws, draw)
                    own = probabilities(p, spread, (draws, n), draw)
                    if kind == "drift":
                        better = own + draw.random((draws, n)) * own * (1 - own)
                        truth = 0.5 * p * (1 - p) * spread / (spread + 1)
                    else:
                        other = probabilities(p, spread, (draws, n), draw)
                        better = np.where(draw.random((draws, n)) < 1 / 3, other, own)
                        truth = 0.0
                    ends = (
                        clustered_interval(differences(*each, draw))
                        for each in zip(own, better, sizes)
                    )
                    name = f"n {n}, p {p}, {size or '1 to 8'} instances, spread {spread}, {kind}"
                    yield measured("templates, two runs", name, truth, ends)


def differences(own: np.ndarray, better: np.ndarray, sizes: np.ndarray, draw: Any) -> list[Any]:
    """Those of the instances of each template, with luck of their own in each run."""
    total = int(sizes.sum())
    before = draw.random(total) < np.repeat(own, sizes)
    after = draw.random(total) < np.repeat(better, sizes)
    changes = after.astype(float) - before
    return [some.tolist() for some in np.split(changes, np.cumsum(sizes)[:-1])]
