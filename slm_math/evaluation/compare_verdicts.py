"""Whether one verifier judges drafts better than another: the paired difference of balanced
accuracy, with problems as the units.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from slm_math.answers.verdicts import DECISIONS
from slm_math.evaluation.compare import holm, sign_flip, spread_interval
from slm_math.metrics.intervals import t_point
from slm_math.metrics.verdicts import solved_problem
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


def compare_balanced(runs: Mapping[str, Sequence[Record]]) -> list[BalancedComparison]:
    """Compares the balanced accuracy of every run with that of the first, which have the same
    problems; [] unless these are right and wrong drafts to judge.
    """
    (a, before), *others = runs.items()
    if {record.answer_type for record in before} != {"verdict"}:
        return []
    golds = {record.id: record.gold for record in before}
    if set(golds.values()) != set(DECISIONS):
        return []
    units = {record.id: solved_problem(record) for record in before}
    old = _shares(before)
    return adjusted_balanced([_compare((a, old), (b, _shares(r)), golds, units) for b, r in others])


def adjusted_balanced(comparisons: Sequence[BalancedComparison]) -> list[BalancedComparison]:
    """The same comparisons with `p_adjusted` for all of them together."""
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_adjusted=p) for comparison, p in zip(comparisons, corrected)]


def _shares(records: Sequence[Record]) -> dict[str, Fraction]:
    """The share of each draft's verdicts that are right."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        verdicts[record.id].append(record.correct and not record.broken)
    return {id: Fraction(sum(some), len(some)) for id, some in verdicts.items()}


def _compare(
    before: tuple[str, Mapping[str, Fraction]],
    after: tuple[str, Mapping[str, Fraction]],
    golds: Mapping[str, str],
    units: Mapping[str, str],
) -> BalancedComparison:
    (a, old), (b, new) = before, after
    counts = {side: sum(gold == side for gold in golds.values()) for side in DECISIONS}
    weights = {id: Fraction(1, 2 * counts[gold]) for id, gold in golds.items()}
    changes = {id: new[id] - old[id] for id in golds}
    # of drafts of one side, whose mean is what their problems are compared with
    means = {
        side: sum((changes[id] for id in golds if golds[id] == side), Fraction()) / counts[side]
        for side in DECISIONS
    }
    sums: dict[str, Fraction] = defaultdict(Fraction)  # what each problem adds to the difference
    residuals: dict[str, Fraction] = defaultdict(Fraction)
    for id, gold in golds.items():
        sums[units[id]] += weights[id] * changes[id]
        residuals[units[id]] += weights[id] * (changes[id] - means[gold])
    difference = float(sum(sums.values()))
    low, high = _interval(difference, list(sums.values()), list(residuals.values()))
    p = sign_flip(list(sums.values()))
    accuracies = (float(sum(weights[id] * run[id] for id in golds)) for run in (old, new))
    return BalancedComparison(
        a=a,
        b=b,
        problems=len(sums),
        drafts=len(golds),
        balanced_accuracy=(next(accuracies), next(accuracies)),
        difference=difference,
        low=low,
        high=high,
        p=p,
        p_adjusted=p,
    )


def _interval(
    difference: float, sums: Sequence[Fraction], residuals: Sequence[Fraction]
) -> tuple[float, float]:
    """95 % interval from the variance of a sum of two ratios over problems (Cochran 1977, section
    6.3; Student's t). Without any variance, that of the problems' own differences.
    """
    n = len(sums)
    if n < 2 or not any(residuals):
        return spread_interval([float(n * value) for value in sums])
    variance = n / (n - 1) * math.fsum(float(residual) ** 2 for residual in residuals)
    half = t_point(n - 1) * math.sqrt(variance)
    return max(difference - half, -1.0), min(difference + half, 1.0)
