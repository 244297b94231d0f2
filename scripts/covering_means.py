"""Parts of truth.py: means, ratios and projections of amounts such as tokens, and of rewards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from covering import Coverage, measured

from slm_math.metrics.intervals import mean_interval, projected, ratio

PROBLEMS = (30, 100, 300)


def ratios(draws: int) -> Iterator[Coverage]:
    """Tokens for each accepted solution: a ratio of sums over problems, of which a share is
    accepted; those that are not took twice as many.
    """
    draw = np.random.default_rng(16)
    for n in PROBLEMS:
        for p in (0.1, 0.5, 0.9):
            for width in (0.5, 1.0):
                accepted = draw.random((draws, n)) < p
                amounts = np.exp(width * draw.standard_normal((draws, n))) * (2 - accepted)
                truth = np.exp(width**2 / 2) * (2 - p) / p
                ends = (
                    ratio(*each)[1:]
                    for each in zip(amounts.tolist(), accepted.astype(float).tolist(), strict=True)
                )
                name = f"n {n}, p {p}, deviation of logarithms {width}"
                yield measured("tokens for each accepted", name, float(truth), ends)


def projections(draws: int) -> Iterator[Coverage]:
    """What 2,000 problems will take, of the first of them: whether it holds what they took."""
    draw = np.random.default_rng(17)
    for n in PROBLEMS:
        for width in (0.5, 1.0):
            amounts = np.exp(width * draw.standard_normal((draws, 2000)))
            ends = (projected(row, 2000)[1:] for row in amounts[:, :n].tolist())
            name = f"n {n}, p 0, deviation of logarithms {width}"
            yield measured("projection", name, amounts.sum(1), ends)


def rewards(draws: int) -> Iterator[Coverage]:
    """The mean reward of a step: of the means of 8 to 64 groups of 8."""
    draw = np.random.default_rng(18)
    for n in (8, 16, 64):
        for p in (0.1, 0.3, 0.5, 0.9):
            for spread in (0.3, 2.0, 10.0):
                chances = draw.beta(p * spread, (1 - p) * spread, (draws, n))
                means = draw.binomial(8, chances) / 8
                found = (mean_interval(row) or (0, 0, 0) for row in means.tolist())
                name = f"n {n}, p {p}, groups of 8, spread {spread}"
                yield measured("mean reward", name, p, (each[1:] for each in found))
