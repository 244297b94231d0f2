"""Whether one verifier judges drafts better than another: the paired difference of balanced
accuracy, with problems as the units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from slm_math.evaluation.compare import holm, sign_flip
from slm_math.evaluation.outcomes import Outcome, outcome
from slm_math.metrics.arrays import in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.differences import interval_of, spread_interval
from slm_math.metrics.facts import SIDES
from slm_math.records.record import Record


@dataclass(frozen=True)
class BalancedComparison:
    """Run `b` against the baseline `a`, over the same drafts of `problems` problems.

    `balanced_accuracy` (of a, of b) and `difference` (b - a, with its 95 % interval `low`, `high`)
    are shares. `p` is two-sided, of a permutation: under the null hypothesis, the verdicts of both
    runs on all drafts of a problem might as well be exchanged. `p_adjusted` is corrected by Holm's
    method for all such comparisons of the list.
    """

    a: str
    b: str
    problems: int
    drafts: int
    balanced_accuracy: tuple[float, float]
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float


def compare_balanced(
    runs: Mapping[str, Samples | Sequence[Record]],
) -> list[BalancedComparison]:
    """Compares the balanced accuracy of every run with that of the first, which have the same
    problems; [] unless these are right and wrong drafts to judge.
    """
    (a, before), *others = ((name, outcome(Samples.of(some))) for name, some in runs.items())
    kinds = {one.side for one, _ in before.samples.counted()}
    if "" in kinds:
        return []
    sides = before.samples.fact(lambda one: SIDES.index(one.side))[before.last].astype(int)
    if set(sides.tolist()) != {0, 1}:
        return []
    return adjusted_balanced([_compare((a, before), (b, after), sides) for b, after in others])


def adjusted_balanced(comparisons: Sequence[BalancedComparison]) -> list[BalancedComparison]:
    """The same comparisons with `p_adjusted` for all of them together."""
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_adjusted=p) for comparison, p in zip(comparisons, corrected)]


def _compare(
    one: tuple[str, Outcome], other: tuple[str, Outcome], sides: np.ndarray
) -> BalancedComparison:
    """`sides`: whether each draft is right (0) or wrong (1)."""
    (a, before), (b, after) = one, other
    places = before.places_in(after)
    # shares are whole numbers of 1 / unit
    unit = math.lcm(*np.unique(np.concatenate((before.sizes, after.sizes))).tolist())
    old = before.right * (unit // before.sizes)
    new = after.right[places] * (unit // after.sizes[places])
    counts = np.bincount(sides, minlength=2).tolist()
    units, numbers = in_order(before.units)
    # what each problem's drafts of a side add to its change, and how many these are: (units, 2)
    changes, drafts = np.zeros((len(units), 2), np.int64), np.zeros((len(units), 2), np.int64)
    np.add.at(changes, (numbers, sides), new - old)
    np.add.at(drafts, (numbers, sides), 1)
    means = [Fraction(int(changes[:, side].sum()), unit * counts[side]) for side in (0, 1)]

    def sums() -> Iterator[Fraction]:
        """What each problem adds to the difference."""
        for own in map(tuple, changes.tolist()):
            yield _weighted(own, counts, unit)

    def residuals() -> Iterator[Fraction]:
        """The same without the means of drafts of each side."""
        for total, own in zip(sums(), drafts.tolist()):
            yield total - sum(n * m / (2 * c) for n, m, c in zip(own, means, counts))

    difference = float(sum(means) / 2)
    low, high = interval_of_sums(difference, list(sums()), list(residuals()))
    p = sign_flip(sums())
    accuracies = [
        float(_weighted([int(run[sides == side].sum()) for side in (0, 1)], counts, unit))
        for run in (old, new)
    ]
    return BalancedComparison(
        a=a,
        b=b,
        problems=len(units),
        drafts=len(sides),
        balanced_accuracy=(accuracies[0], accuracies[1]),
        difference=difference,
        low=low,
        high=high,
        p=p,
        p_adjusted=p,
    )


def _weighted(changes: Sequence[int], counts: Sequence[int], unit: int) -> Fraction:
    return sum(
        (Fraction(change, 2 * count * unit) for change, count in zip(changes, counts)), Fraction()
    )


def interval_of_sums(
    difference: float, sums: Sequence[float | Fraction], residuals: Sequence[float | Fraction]
) -> tuple[float, float]:
    """95 % interval from the variance of a sum of two ratios over problems (Cochran 1977, section
    6.3; see `interval_of`). Without any variance, that of the problems' own differences.
    """
    n = len(sums)
    if n < 2 or not any(residuals):
        return spread_interval([float(n * value) for value in sums])
    squares = math.fsum(float(residual) ** 2 for residual in residuals)
    return interval_of(difference, n * n * squares, n)
