"""Whether a method is better than another, not only one set of weights: pairs of runs by seed.

Each seed gives a paired difference over the same problems. Three questions have three intervals:
other problems with these seeds (over problems, of their means over seeds), other seeds with these
problems (Student's t over seeds), and both: the variances of a table of seeds by problems add up,
since every seed met every problem (Cornfield and Tukey, Annals of Mathematical Statistics 1956,
27:907; degrees of freedom by Satterthwaite, Biometrics 1946, 2:110). The variance of problems has
the two partial ones of `variance_of`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from slm_math.evaluation.compare import check_paired
from slm_math.evaluation.outcomes import outcome
from slm_math.metrics.columns import Samples
from slm_math.metrics.differences import spread_interval, variance_of
from slm_math.metrics.intervals import t_inside, t_point
from slm_math.records.record import Record, TurnEvent


@dataclass(frozen=True)
class SeedComparison:
    """A method `b` against a baseline `a`, over pairs of runs by seed on the same `problems`.

    `difference` is the mean over seeds and problems, a share; `differences` those of the seeds.
    `over_seeds`, `over_problems` and `over_both` are its 95 % intervals, `p` the two-sided p of the
    t-test over seeds.
    """

    a: tuple[str, ...]
    b: tuple[str, ...]
    problems: int
    differences: tuple[float, ...]
    difference: float
    over_seeds: tuple[float, float]
    over_problems: tuple[float, float]
    over_both: tuple[float, float]
    p: float


def levels(one: SeedComparison) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of the mean difference, by what they are about."""
    return {
        "the method (other seeds, other problems)": one.over_both,
        "the method on these problems (other seeds)": one.over_seeds,
        "these weights (other problems)": one.over_problems,
    }


def compare_seeds(
    pairs: Sequence[tuple[tuple[str, Any], tuple[str, Any]]],
) -> SeedComparison:
    """Compares methods over seeds, given the pairs of runs: ((name of a, records), (of b, records))
    for each seed.

    Raises ValueError for fewer than two seeds, for runs of different problems, for seeds that do
    not differ on any problem, whose intervals would have no width, and if a run is there under
    several seeds, unless it is that of all of them (a model that no seed has trained).
    """
    if len(pairs) < 2:
        raise ValueError("a comparison over seeds needs two seeds or more: four runs")
    first_name, first = pairs[0][0][0], outcome(Samples.of(pairs[0][0][1]))
    units, numbers = np.unique(first.units, return_inverse=True)
    counts = np.bincount(numbers)
    rows: list[np.ndarray] = []
    sides: tuple[list[_Run], list[_Run]] = [], []
    for pair in pairs:
        shares: list[np.ndarray] = []
        for name, some in pair:
            own = outcome(Samples.of(some))
            check_paired(first_name, first, name, own)
            places = first.places_in(own)
            shares.append(own.right[places] / own.sizes[places])
            sides[len(shares) - 1].append(_Run(name, own.samples, shares[-1]))
        # what each unit (a problem; of drafts, the one that they solve) adds to the mean
        sums = np.bincount(numbers, weights=shares[1] - shares[0])
        rows.append(sums * len(units) / counts.sum())
    table = np.array(rows)
    if (table == table[0]).all():
        raise ValueError(
            f"all {len(pairs)} seeds give the same difference on each of {len(first.problems)} "
            "problems, so these runs say nothing of other seeds (greedy decoding of the same "
            "weights does not depend on the seed): take models that were trained with different "
            "seeds, or compare one pair of runs, without --over seeds"
        )
    for side in sides:
        _check_repeated(side)
    return compared(table, len(first.problems), pairs)


@dataclass(frozen=True)
class _Run:
    """A run under one seed: `shares` has the share of right samples of each problem."""

    name: str
    samples: Samples
    shares: np.ndarray

    @cached_property
    def replies(self) -> set[int]:
        """Hashes of what the model wrote in each sample."""
        records = map(self.samples.record, range(len(self.samples)))
        return {
            hash((one.key, one.answer, *(e.reply for e in one.events if isinstance(e, TurnEvent))))
            for one in records
        }

    def is_same(self, other: _Run) -> bool:
        return np.array_equal(self.shares, other.shares) and self.replies == other.replies


def _check_repeated(runs: Sequence[_Run]) -> None:
    """Raises ValueError if some of the runs, but not all, have the same replies: as seeds they
    would be counted twice.
    """
    first = runs[0]
    if all(map(first.is_same, runs[1:])):
        return
    for one, other in combinations(runs, 2):
        if one.is_same(other):
            raise ValueError(
                f"{one.name} and {other.name} have the same replies in every sample, so they are "
                "one run, not two seeds: name each run once, or take models that were trained with "
                "different seeds"
            )


def compared(
    table: np.ndarray, problems: int, pairs: Sequence[tuple[tuple[str, Any], tuple[str, Any]]]
) -> SeedComparison:
    """`table` has the differences of seeds by units: (S, U)."""
    mean = float(table.mean())
    differences = table.mean(axis=1).tolist()
    half, p = _t_test(differences)
    return SeedComparison(
        a=tuple(one[0] for one, _ in pairs),
        b=tuple(other[0] for _, other in pairs),
        problems=problems,
        differences=tuple(differences),
        difference=mean,
        over_seeds=_clipped(mean, half),
        over_problems=spread_interval(table.mean(axis=0).tolist()),
        over_both=_clipped(mean, _half_of_both(table)),
        p=p,
    )


def _t_test(values: Sequence[float]) -> tuple[float, float]:
    """Half of the 95 % interval of a mean, and p of a mean of 0 (Student's t)."""
    n, mean = len(values), math.fsum(values) / len(values)
    error = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (n - 1) / n)
    p = 1 - t_inside(abs(mean) / error, n - 1) if error else float(mean == 0)
    return t_point(n - 1) * error, p


def _half_of_both(table: np.ndarray) -> float:
    """Half of the 95 % interval of the mean of seeds by problems, both of which are a sample."""
    seeds, units = table.shape
    if units < 2:
        return math.inf
    mean, by_seed, by_unit = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_unit[None, :] + mean
    squares = (
        units * float(((by_seed - mean) ** 2).sum()) / (seeds - 1),
        seeds * variance_of(float(mean), float(((by_unit - mean) ** 2).sum()), units),
        float((rest**2).sum()) / (seeds - 1) / (units - 1),
    )
    freedoms = (seeds - 1, units - 1, (seeds - 1) * (units - 1))
    # never below one of its two parts: the estimate of the rest is noisy
    total = max(squares[0] + squares[1] - squares[2], squares[0], squares[1])
    if not total:
        return 0.0
    below = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    freedom = max(math.floor(total**2 / below), seeds - 1)
    return t_point(freedom) * math.sqrt(total / (seeds * units))


def _clipped(mean: float, half: float) -> tuple[float, float]:
    return max(mean - half, -1.0), min(mean + half, 1.0)


def pairs_of(
    runs: Mapping[str, Samples | Sequence[Record]], seeds: Mapping[str, Any]
) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    """Pairs of runs by seed: the first half are those of the baseline, the second half those of the
    method, in the same order.

    Raises ValueError for an odd number of runs, or if manifests show that the order is not the
    same.
    """
    names = list(runs)
    half = len(names) // 2
    if len(names) % 2 or half < 2:
        raise ValueError(
            "--over seeds takes the runs of the baseline, one for each seed, and then as many of "
            f"the method in the same order: at least four, got {len(names)}"
        )
    before, after = names[:half], names[half:]
    old, new = ([str(seeds[name]) for name in some] for some in (before, after))
    if old != new and None not in map(seeds.get, names):
        one, other = next(pair for pair in zip(before, after) if seeds[pair[0]] != seeds[pair[1]])
        raise ValueError(
            f"{one} has seed {seeds[one]} and {other} has seed {seeds[other]}: name the runs of "
            "the baseline first, and then as many of the method, in the same order of seeds"
        )
    return [((a, runs[a]), (b, runs[b])) for a, b in zip(before, after)]
