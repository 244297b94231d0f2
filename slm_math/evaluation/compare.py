"""Whether one evaluation is better than another: paired by problem, with an interval, a test, and
the problems whose result flipped.

With one sample per problem in both runs: the interval of the difference by Agresti and Min (2005,
Statistics in Medicine 24:729) and McNemar's exact test. With several: the mean of the differences
of problems, an interval from their variance, and a sign-flip permutation test. Several comparisons
are corrected by Holm's method (1979).
"""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np

from slm_math.evaluation.outcomes import Outcome, outcome
from slm_math.evaluation.power import detectable_single, detectable_spread
from slm_math.metrics.arrays import grouped, in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.differences import (
    clustered_error,
    clustered_interval,
    paired_interval,
    spread_error,
    spread_interval,
)
from slm_math.records.record import Record

_Shares: TypeAlias = tuple[np.ndarray, np.ndarray]  # how many of how many, of each problem

FLIPS = 10_000  # random sign flips; all possible ones if there are at most 2 ** EXACT
EXACT = 14


@dataclass(frozen=True)
class Comparison:
    """Run `b` against the baseline `a`, over the same `problems`.

    `accuracy` (of a, of b) and `difference` (b - a, with its 95 % interval `low`, `high`) are
    shares, means over problems. `p` is two-sided; `p_adjusted` is corrected by Holm's method for
    all comparisons of the list. `gained` and `lost` are the ids of problems that b solves and a
    does not, and vice versa; with several samples, "solves" means in more than half of them.
    `broken` counts the samples (of a, of b) whose workflow broke; they count as incorrect.
    `detectable` is the smallest difference that the comparison could see with a power of 80 %, at
    the discordance or variance that it found; None if that is no difference at all.
    """

    a: str
    b: str
    problems: int
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    test: str
    accuracy: tuple[float, float]
    broken: tuple[int, int] = (0, 0)
    detectable: float | None = None

    def shown(self) -> str:
        """In per cent, as people read it: `+12.0 [3.1, 20.9], p = 0.011 (Holm 0.022), 14 gained, 2
        lost, n = 100`.
        """
        p, adjusted = shown_p(self.p), shown_p(self.p_adjusted)
        return (
            f"{self.shown_difference()}, p {'' if p.startswith('<') else '= '}{p}"
            + (f" (Holm {adjusted})" if self.p_adjusted != self.p else "")
            + f", {len(self.gained)} gained, {len(self.lost)} lost, n = {self.problems}"
        )

    def shown_difference(self) -> str:
        """The difference in per cent, with its interval."""
        return shown_difference(self.difference, self.low, self.high)


def shown_difference(difference: float, low: float, high: float) -> str:
    """A difference of shares in per cent, with its interval: `+12.0 [3.1, 20.9]`."""
    difference, low, high = (round(100 * value, 1) + 0.0 for value in (difference, low, high))
    return f"{difference:+.1f} [{low:.1f}, {high:.1f}]"


def shown_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def compare(runs: Mapping[str, Samples | Sequence[Record]]) -> list[Comparison]:
    """Compares every run with the first, given the records of each by name.

    Raises ValueError if there is nothing to compare, or if the runs do not have the same problems.
    """
    if len(runs) < 2:
        raise ValueError(f"nothing to compare: name two runs or more, got {len(runs)}")
    (a, before), *others = ((name, _outcome(name, some)) for name, some in runs.items())
    for b, after in others:
        check_paired(a, before, b, after)
    return adjusted([_comparison((a, before), (b, after)) for b, after in others])


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_adjusted` for all of them together."""
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_adjusted=p) for comparison, p in zip(comparisons, corrected)]


def check_paired(a: str, before: Outcome, b: str, after: Outcome) -> None:
    """Raises ValueError unless two runs have the same problems, graded against the same answers; a
    blind control has other images than what it is the control of.
    """
    pairs = (a, before, after), (b, after, before)
    missing = [(name, mine, mine.places_in(yours) < 0) for name, mine, yours in pairs]
    if any(only.any() for _, _, only in missing):
        lists = " and ".join(
            f"{only.sum()} only in {name} (such as {_short(mine.id(int(only.argmax())))})"
            for name, mine, only in missing
            if only.any()
        )
        raise ValueError(
            f"{a} and {b} do not have the same problems: {lists} besides "
            f"{(~missing[0][2]).sum()} in both; "
            "evaluate both with the same --source, --split and --limit"
        )
    places = before.places_in(after)
    blind = before.blind | after.blind[places]
    other_rules = before.rules != after.rules[places]
    other_images = (before.shown != after.shown[places]) & ~blind
    for place in np.flatnonzero(other_rules | other_images)[:1].tolist():
        id = before.id(place)
        mine, others = _rules(before.record(place)), _rules(after.record(int(places[place])))
        for name, value in mine.items():
            if value != others[name] and not (name == "image" and blind[place]):
                raise ValueError(
                    f"problem {_short(id)} has another {name} in {b} than in {a} "
                    f"({_short(others[name])}, {_short(value)}): "
                    "the runs are of different data; evaluate both on one source"
                )


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test: under the null hypothesis each of the `gained + lost`
    problems that changed was equally likely to change either way.
    """
    n, term, total = gained + lost, 1, 0
    for i in range(min(gained, lost) + 1):
        total += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * total / 2**n)


def sign_flip(differences: Iterable[Fraction], flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0: how often random signs give a sum at least as far from
    0 as the observed one.

    Exact if at most `EXACT` differences are not 0; otherwise (hits + 1) / (flips + 1), reproducible
    by seed.
    """
    observations = Counter(differences)
    unit = math.lcm(*(d.denominator for d in observations))
    sizes = Counter[int]()
    for difference, n in observations.items():
        if difference:
            sizes[int(abs(difference) * unit)] += n
    observed = abs(int(sum(d * n for d, n in observations.items()) * unit))
    if sizes.total() <= EXACT:
        sums = Counter({0: 1})
        for size in sizes.elements():
            sums = Counter({s + size: n for s, n in sums.items()}) + Counter(
                {s - size: n for s, n in sums.items()}
            )
        return sum(n for s, n in sums.items() if abs(s) >= observed) / 2 ** sizes.total()
    generator = random.Random(seed)
    hits = 0
    for _ in range(flips):
        total = sum(
            size * (2 * generator.getrandbits(n).bit_count() - n) for size, n in sizes.items()
        )
        hits += abs(total) >= observed
    return (hits + 1) / (flips + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the i-th smallest of n times n - i + 1, and
    at least the corrected value of every smaller one.
    """
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = largest
    return corrected


def _outcome(name: str, records: Samples | Sequence[Record]) -> Outcome:
    samples = Samples.of(records)
    if not samples:
        raise ValueError(f"{name} is empty: it has no records")
    for place in np.flatnonzero(samples.fact(lambda one: not one.has_verdict))[:1].tolist():
        raise ValueError(
            f"{name}: a sample of problem {_short(samples.record(place).id)} has no verdict (no "
            f"field 'correct')"
        )
    return outcome(samples)


def _comparison(one: tuple[str, Outcome], other: tuple[str, Outcome]) -> Comparison:
    (a, before), (b, after) = one, other
    places = before.places_in(after)
    old, sizes = before.right, before.sizes
    new, others = after.right[places], after.sizes[places]
    gained = (2 * old < sizes) & (2 * new > others)
    lost = (2 * new < others) & (2 * old > sizes)
    n = len(old)
    differences = partial(_differences, (old, sizes), (new, others))
    units, numbers = in_order(before.units)
    if len(units) < n:  # drafts of one problem, for example, are no independent observations
        order, starts = grouped(numbers)
        clusters = partial(_clusters, list(differences()), order, starts)
        p = sign_flip(sum(some, Fraction()) for some in clusters())
        seen = detectable_spread(clustered_error([list(map(float, some)) for some in clusters()]))
        test = f"sign-flip permutation by {before.samples.cluster or 'problem'}"
        low, high = clustered_interval([list(map(float, some)) for some in clusters()])
    elif before.single and after.single:
        p, test = mcnemar(int(gained.sum()), int(lost.sum())), "exact McNemar"
        low, high = paired_interval(int(gained.sum()), int(lost.sum()), n)
        seen = detectable_single(int(gained.sum()), int(lost.sum()), n)
    else:
        p, test = sign_flip(differences()), "sign-flip permutation"
        column = array("d", map(float, differences()))
        low, high = spread_interval(column)
        seen = detectable_spread(spread_error(column))
    shares = [_sum_of_shares(right, of) / n for right, of in ((old, sizes), (new, others))]
    return Comparison(
        a=a,
        b=b,
        problems=n,
        difference=float(shares[1] - shares[0]),
        low=low,
        high=high,
        p=p,
        p_adjusted=p,
        gained=tuple(map(before.id, np.flatnonzero(gained).tolist())),
        lost=tuple(map(before.id, np.flatnonzero(lost).tolist())),
        test=test,
        accuracy=(float(shares[0]), float(shares[1])),
        broken=(before.broken, after.broken),
        detectable=seen,
    )


def _differences(before: _Shares, after: _Shares) -> Iterator[Fraction]:
    """The differences of shares, problem by problem."""
    return map(_difference, *(column.data for column in (*before, *after)))


@lru_cache(maxsize=1 << 12)
def _difference(old: int, size: int, new: int, other: int) -> Fraction:
    return Fraction(new, other) - Fraction(old, size)


def _clusters(
    differences: Sequence[Fraction], order: np.ndarray, starts: np.ndarray
) -> Iterator[list[Fraction]]:
    for start, end in zip(starts.tolist(), starts[1:].tolist()):
        yield [differences[place] for place in order[start:end].tolist()]


def _sum_of_shares(right: np.ndarray, sizes: np.ndarray) -> Fraction:
    return sum(
        (Fraction(int(right[sizes == size].sum()), size) for size in np.unique(sizes).tolist()),
        Fraction(),
    )


def _rules(record: Record) -> dict[str, Any]:
    """What the answers of a problem are graded by."""
    return {
        "problem": record.problem,
        "gold": record.gold,
        "answer_type": record.answer_type,
        "choices": record.choices,
        "image": [image.hash for image in record.images],
        "tolerance": record.tolerance,
        "draft": record.draft,
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."
