"""Parts of truth.py: verdicts on drafts, whose problems are the units: balanced accuracy, its
difference, and calibration.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import starmap
from typing import Any

import numpy as np
from covering import LARGE, Coverage, measured, probabilities

from slm_math.evaluation.compare_verdicts import interval_of_sums
from slm_math.metrics import calibration
from slm_math.metrics.intervals import pooled
from slm_math.metrics.verdicts import interval_of_both

PROBLEMS = (30, 100, 300)
RATES = ((0.5, 0.5), (0.7, 0.3), (0.9, 0.6), (0.98, 0.9))  # of right and of wrong drafts
SPREADS = (0.3, 2.0, 10.0)


def sides(rate: tuple[float, float], spread: float, size: tuple[int, int], draw: Any) -> Any:
    """How many drafts of each side problems have (2, draws, n): 0 to 4; and the probabilities of a
    right verdict on each, which are high or low on both sides of one problem.
    """
    drafts = draw.integers(0, 5, (2, *size))
    luck = probabilities(0.5, spread, size, draw) - 0.5
    rates = np.array(rate)[:, None, None]
    return drafts, rates + 2 * luck * np.minimum(rates, 1 - rates)


def balanced(draws: int) -> Iterator[Coverage]:
    """Balanced accuracy of a verifier."""
    draw = np.random.default_rng(13)
    for n in PROBLEMS:
        for rate in RATES:
            for spread in SPREADS:
                drafts, chances = sides(rate, spread, (draws, n), draw)
                right = draw.binomial(drafts, chances)
                ends = starmap(_of_verifier, _evaluations(right, drafts))
                name = _setting(n, rate, spread)
                yield measured("balanced accuracy", name, sum(rate) / 2, ends)


def _evaluations(values: np.ndarray, drafts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The values and the numbers of drafts of each evaluation."""
    return zip(values.swapaxes(0, 1), drafts.swapaxes(0, 1), strict=True)


def _setting(n: int, rate: tuple[float, float], spread: float) -> str:
    return f"n {n}, p {sum(rate) / 2:.2f}, rates {rate[0]} and {rate[1]}, spread {spread}"


def _of_verifier(right: np.ndarray, drafts: np.ndarray) -> tuple[float, float]:
    rates, ends, residuals = [], [], []
    for own, sizes in zip(right, drafts, strict=True):
        rates.append(float(own.sum() / sizes.sum()))
        there = sizes > 0
        ends.append(pooled(own[there].tolist(), sizes[there].tolist()))
        residuals.append((own - rates[-1] * sizes).tolist())
    return interval_of_both(rates, ends, residuals=(residuals[0], residuals[1]))


def balanced_of_two(draws: int) -> Iterator[Coverage]:
    """The difference of the balanced accuracies of two verifiers on the same drafts."""
    draw = np.random.default_rng(14)
    for rate in RATES:
        for spread in SPREADS:
            large = sides(rate, spread, (1, LARGE), draw)[1]
            truth = float((0.2 * large * (1 - large)).mean())
            for n in PROBLEMS:
                drafts, chances = sides(rate, spread, (draws, n), draw)
                better = chances + 0.2 * chances * (1 - chances)
                change = draw.binomial(drafts, better) - draw.binomial(drafts, chances)
                ends = starmap(_of_two, _evaluations(change, drafts))
                yield measured("balanced accuracy, two", _setting(n, rate, spread), truth, ends)


def _of_two(change: np.ndarray, drafts: np.ndarray) -> tuple[float, float]:
    counts = drafts.sum(1)[:, None]
    means = change.sum(1)[:, None] / counts
    there = drafts.sum(0) > 0
    sums = (change / counts / 2).sum(0)[there]
    residuals = sums - (drafts * means / counts / 2).sum(0)[there]
    return interval_of_sums(float(means.mean()), sums.tolist(), residuals.tolist())


def calibrated(draws: int) -> Iterator[Coverage]:
    """The calibration error of eight verdicts on each of 1 to 4 drafts, whose share that says
    CORRECT is that of right drafts, or is too far from one half by so much.
    """
    draw = np.random.default_rng(15)
    # the same for every evaluation of n problems
    calibration.resamples = cache(lambda n, make=calibration.resamples: list(make(n)))
    p = 0.8
    for far in (0.0, 0.1, 0.2):
        gaps, counts = _of_shares(p, far, (1, 5 * LARGE), draw)
        truth = float(np.abs(gaps[0].sum(0)).sum() / counts[0].sum())
        for n in PROBLEMS[:2]:
            ends = (
                calibration.error_interval(own[0][0], own[1][0])
                for _ in range(draws)
                for own in [_of_shares(p, far, (1, n), draw)]
            )
            name = f"n {n}, p {p}, {far:g} too far"
            yield measured("calibration error", name, truth, ends)


def _of_shares(p: float, far: float, size: tuple[int, int], draw: Any) -> Any:
    """The sums of right - share by bins (draws, n, bins), and numbers of drafts (draws, n)."""
    counts = draw.integers(1, 5, size)
    gaps = np.zeros((*size, calibration.BINS))
    places = np.indices(size)
    for number in range(4):
        there = counts > number
        chance = probabilities(p, 2.0, size, draw)
        right = draw.random(size) < chance
        stated = np.clip(chance + far * np.sign(chance - 0.5), 0, 1)
        shares = draw.binomial(8, stated) / 8
        bins = np.clip(np.ceil(shares * calibration.BINS - 1e-6).astype(int) - 1, 0, None)
        np.add.at(gaps, (*places, bins), np.where(there, right - shares, 0.0))
    return gaps, counts.astype(float)
