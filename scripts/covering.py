"""What the parts of truth.py share: the settings, solvers of known accuracy, and coverage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from slm_math.metrics.differences import clustered_interval, interval_of

PROBLEMS = (30, 100, 300, 1319)
ACCURACIES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
HALF = (0.02, 0.1, 0.3, 0.5, 0.9)  # where 1 - p is much like p
MANY = 20_000  # problems in the world that evaluations are drawn from
LARGE = 200_000  # problems of which a truth is the mean where no formula has it
# a + b of the beta distribution of a problem's probability: nearly all or nothing, uniform at 0.5,
# much alike; all alike
SPREADS = (0.3, 2.0, 10.0, math.inf)


@dataclass(frozen=True)
class Coverage:
    """Of an interval in a setting; `width` is its mean."""

    interval: str
    setting: str
    coverage: float
    width: float


def probabilities(p: float, spread: float, size: tuple[int, int], draw: Any) -> np.ndarray:
    """Of each problem of each evaluation."""
    if math.isinf(spread):
        return np.full(size, p)
    return draw.beta(p * spread, (1 - p) * spread, size)


def two(p: float, spread: float, kind: str, draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of two runs on many problems: the second one is a little better on all of
    them ("drift"), or on a third of them another one to which these are as hard in the mean
    ("turnover"). These problems are what evaluations are drawn from, so that their mean is true.
    """
    own = probabilities(p, spread, (MANY, 1), draw)[:, 0]
    if kind == "drift":
        return own, own + draw.random(MANY) * own * (1 - own)
    other = probabilities(p, spread, (MANY, 1), draw)[:, 0]
    return own, np.where(draw.random(MANY) < 1 / 3, other, own)


def differences(own: np.ndarray, better: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The differences of shares that m samples of both runs may have, and their chances."""
    ways = np.array([math.comb(m, k) for k in range(m + 1)], float)
    k = np.arange(m + 1)
    old, new = (ways * q[:, None] ** k * (1 - q[:, None]) ** (m - k) for q in (own, better))
    joint = old.T @ new / len(own)  # (old, new)
    places = k[None, :] - k[:, None] + m
    chances = np.bincount(places.ravel(), weights=joint.ravel())
    return np.arange(-m, m + 1) / m, chances


def counted(
    values: np.ndarray, sizes: np.ndarray, chances: np.ndarray, n: int, *, draws: int, draw: Any
) -> Iterator[tuple[float, float]]:
    """`clustered_interval` of evaluations of n independent units, each of which is of one of some
    kinds (K,) with these chances, sums of differences and numbers of them. Only the number of units
    of each kind is drawn; of the first evaluation the interval is that of a list of all.
    """
    counts = draw.multinomial(n, chances / chances.sum(), draws).astype(float)
    counts = counts[counts @ sizes > 0]
    total = counts @ sizes
    mean = counts @ values / total
    # without units that have none: problems without the turn, for example
    units = counts @ (sizes > 0)
    squares = (
        counts @ values**2 - 2 * mean * (counts @ (values * sizes)) + mean**2 * (counts @ sizes**2)
    )
    squares = np.where(squares < 1e-9, 0.0, squares * (units / total) ** 2)
    columns = zip(counts, mean.tolist(), squares.tolist(), units.astype(int).tolist())
    for place, (own, center, square, several) in enumerate(columns):
        ends = interval_of(center, square, several) if square and several > 1 else None
        if ends is None or not place:
            kinds = np.repeat(np.arange(len(own)), own.astype(int))
            listed = [
                [values[kind] / sizes[kind]] * int(sizes[kind]) for kind in kinds if sizes[kind]
            ]
            exact = clustered_interval(listed)
            assert ends is None or np.allclose(ends, exact), (ends, exact)
            ends = exact
        yield ends


def measured(
    name: str,
    setting: str,
    truth: float | np.ndarray,
    intervals: Iterator[tuple[float, float]],
) -> Coverage:
    """The coverage of the intervals of many evaluations; `truth` is one for all, or of each."""
    ends = np.array(list(intervals))
    holds = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return Coverage(name, setting, float(holds.mean()), float((ends[:, 1] - ends[:, 0]).mean()))
