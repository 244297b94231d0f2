"""How well a verifier judges drafts: problems whose answer is CORRECT or INCORRECT."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from slm_math.metrics.arrays import in_order, totals
from slm_math.metrics.columns import Samples
from slm_math.metrics.facts import SIDES
from slm_math.metrics.observed import Observations, of_samples

Interval = tuple[float, float, int]


def verdict_sides(samples: Samples) -> Observations:
    """Whether each verdict on a right draft was CORRECT (`true_positive_rate`), and each on a wrong
    one INCORRECT (`true_negative_rate`); {} without drafts.

    A verifier that says nothing usable is wrong on both sides.
    """
    sides = dict.fromkeys(one.side for one, _ in samples.counted() if one.side)
    return {
        side: of_samples(
            samples, lambda one, side=side: float(one.correct) if one.side == side else None
        )
        for side in sides
    }


def balanced_accuracy(sides: Mapping[str, float]) -> float | None:
    """The mean of the two rates; None if there are drafts of one side only."""
    return None if set(sides) != set(SIDES) else sum(sides.values()) / 2


def balanced_interval(
    observed: Observations, intervals: Mapping[str, Interval]
) -> tuple[float, float, int]:
    """95 % interval of the mean of both rates, and the number of their observations, given the
    intervals of each (Zou 2008, MOVER).

    Problems with right and with wrong drafts correlate the rates. The correlation is that of the
    problems' sums of residuals, whose squares estimate the variance of a ratio of sums (Cochran
    1977, section 6.3).
    """
    rates = [observed[side].mean for side in SIDES]
    (right, its), (wrong, others) = (observed[side].known() for side in SIDES)
    different, numbers = in_order(np.concatenate((its, others)))
    first, second = (
        totals(some, len(different), observed[side].table - rate, codes).tolist()
        for side, codes, rate, some in zip(
            SIDES, (right, wrong), rates, (numbers[: len(its)], numbers[len(its) :])
        )
    )
    ends = [intervals[side][:2] for side in SIDES]
    return (
        *interval_of_both(rates, ends, residuals=(first, second)),
        sum(intervals[side][2] for side in SIDES),
    )


def interval_of_both(
    rates: Sequence[float],
    ends: Sequence[tuple[float, float]],
    residuals: tuple[Sequence[float], Sequence[float]],
) -> tuple[float, float]:
    """95 % interval of the mean of two rates, given those of each, and each problem's sum of the
    residuals of each.
    """
    first, second = residuals
    spread = math.sqrt(_dot(first, first) * _dot(second, second))
    correlation = _dot(first, second) / spread if spread else 0.0
    mean = sum(rates) / 2
    below = _half([rate - low for rate, (low, _) in zip(rates, ends)], correlation)
    above = _half([high - rate for rate, (_, high) in zip(rates, ends)], correlation)
    return mean - below, mean + above


def _half(margins: Sequence[float], correlation: float) -> float:
    """The margin of the mean of two correlated estimates, from their own."""
    one, two = margins
    return math.sqrt(max(one * one + two * two + 2 * correlation * one * two, 0.0)) / 2


def _dot(one: Sequence[float], two: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, two))
