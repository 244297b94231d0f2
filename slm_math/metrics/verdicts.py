"""How well a verifier judges drafts: problems whose answer is CORRECT or INCORRECT."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from slm_math.answers.verdicts import DECISIONS
from slm_math.metrics.intervals import Observations
from slm_math.records.record import Record

SIDES = ("true_positive_rate", "true_negative_rate")  # of right and of wrong drafts
Interval = tuple[float, float, int]


def verdict_sides(records: Sequence[Record]) -> Observations:
    """Whether each verdict on a right draft was CORRECT (`true_positive_rate`), and each on a wrong
    one INCORRECT (`true_negative_rate`), with the problem that the draft solves; {} without drafts.

    A verifier that says nothing usable is wrong on both sides.
    """
    sides: Observations = {}
    for record in records:
        if record.answer_type == "verdict":
            side = SIDES[DECISIONS.index(record.gold)]
            sides.setdefault(side, []).append((solved_problem(record), float(record.correct)))
    return sides


def solved_problem(record: Record) -> str:
    """The name of the problem that is solved, which all drafts of it share: the unit of
    independent observations.
    """
    return record.id.rpartition("/")[0] if record.answer_type == "verdict" else record.id


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
    residuals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # by problem, of each rate
    rates = [_mean(observed[side]) for side in SIDES]
    for place, side in enumerate(SIDES):
        for problem, value in observed[side]:
            residuals[problem][place] += value - rates[place]
    first, second = zip(*residuals.values())
    spread = math.sqrt(_dot(first, first) * _dot(second, second))
    correlation = _dot(first, second) / spread if spread else 0.0
    lows, highs, counts = zip(*(intervals[side] for side in SIDES))
    mean = sum(rates) / 2
    below = _half([rate - low for rate, low in zip(rates, lows)], correlation)
    above = _half([high - rate for rate, high in zip(rates, highs)], correlation)
    return mean - below, mean + above, sum(counts)


def _mean(pairs: Sequence[tuple[str, float]]) -> float:
    return sum(value for _, value in pairs) / len(pairs)


def _half(margins: Sequence[float], correlation: float) -> float:
    """The margin of the mean of two correlated estimates, from their own."""
    one, two = margins
    return math.sqrt(max(one * one + two * two + 2 * correlation * one * two, 0.0)) / 2


def _dot(one: Sequence[float], two: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, two))
