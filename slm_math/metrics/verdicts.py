"""How well a verifier judges drafts: problems whose answer is CORRECT or INCORRECT."""

from __future__ import annotations

import math
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


def balanced_interval(rates: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """95 % interval of the mean of two independent rates, from their own intervals (Zou and Donner
    2008, MOVER).
    """
    mean = sum(rates) / 2
    below = math.hypot(*(rate - low for rate, (low, _, _) in zip(rates, intervals))) / 2
    above = math.hypot(*(high - rate for rate, (_, high, _) in zip(rates, intervals))) / 2
    return mean - below, mean + above, sum(n for _, _, n in intervals)
