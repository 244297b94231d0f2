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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

from slm_math.metrics.intervals import Z, t_point
from slm_math.metrics.verdicts import solved_problem
from slm_math.records.record import Record

_Verdicts: TypeAlias = dict[str, list[bool]]  # by problem

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


def compare(runs: Mapping[str, Sequence[Record]]) -> list[Comparison]:
    """Compares every run with the first, given the records of each by name.

    Raises ValueError if there is nothing to compare, or if the runs do not have the same problems.
    """
    if len(runs) < 2:
        raise ValueError(f"nothing to compare: name two runs or more, got {len(runs)}")
    outcomes = {name: _outcome(name, records) for name, records in runs.items()}
    (a, before), *others = runs.items()
    for b, after in others:
        check_paired(a, before, b, after)
    return adjusted([_comparison(outcomes[a], outcomes[b]) for b, _ in others])


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_adjusted` for all of them together."""
    corrected = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_adjusted=p) for comparison, p in zip(comparisons, corrected)]


def check_paired(a: str, before: Sequence[Record], b: str, after: Sequence[Record]) -> None:
    """Raises ValueError unless two runs have the same problems, graded against the same answers; a
    blind control has other images than what it is the control of.
    """
    rules = {record.id: _rules(record) for record in before}
    others = {record.id: _rules(record) for record in after}
    blind = {record.id for record in (*before, *after) if record.blind}
    if rules.keys() != others.keys():
        missing = [
            (name, [id for id in mine if id not in yours])
            for name, mine, yours in ((a, rules, others), (b, others, rules))
        ]
        lists = " and ".join(
            f"{len(ids)} only in {name} (such as {_short(ids[0])})" for name, ids in missing if ids
        )
        raise ValueError(
            f"{a} and {b} do not have the same problems: {lists} besides "
            f"{len(rules.keys() & others.keys())} in both; "
            "evaluate both with the same --source, --split and --limit"
        )
    for id, mine in rules.items():
        for name, value in mine.items():
            if value != others[id][name] and not (name == "image" and id in blind):
                raise ValueError(
                    f"problem {_short(id)} has another {name} in {b} than in {a} "
                    f"({_short(others[id][name])}, {_short(value)}): "
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


def paired_interval(gained: float, lost: float, n: int) -> tuple[float, float]:
    """95 % interval of `(gained - lost) / n` for n pairs, with 1/2 added to each of the four cells
    (Agresti and Min 2005).
    """
    center = (gained - lost) / (n + 2)
    half = Z * math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / (n + 2)) / (n + 2)
    return max(center - half, -1.0), min(center + half, 1.0)


def spread_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of the problems' differences, from their variance (Student's t).

    Without any variance, the interval is that of one sample per problem.
    """
    if len(set(differences)) > 1:
        n, mean = len(differences), math.fsum(differences) / len(differences)
        half = t_point(n - 1) * math.sqrt(
            math.fsum((difference - mean) ** 2 for difference in differences) / (n - 1) / n
        )
        return max(mean - half, -1.0), min(mean + half, 1.0)
    gained, lost = sum(d for d in differences if d > 0), -sum(d for d in differences if d < 0)
    return paired_interval(gained, lost, len(differences))


def clustered_interval(clusters: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % interval of the mean of all differences in clusters of unequal sizes, from the variance
    of a ratio of sums over clusters (Cochran 1977, section 6.3; Student's t).
    """
    n, total = len(clusters), sum(map(len, clusters))
    mean = math.fsum(map(math.fsum, clusters)) / total
    residuals = [math.fsum(some) - mean * len(some) for some in clusters]
    if n < 2 or not any(residuals):
        return spread_interval([math.fsum(some) / len(some) for some in clusters])
    variance = n / (n - 1) * math.fsum(residual**2 for residual in residuals) / total**2
    half = t_point(n - 1) * math.sqrt(variance)
    return max(mean - half, -1.0), min(mean + half, 1.0)


def sign_flip(differences: Sequence[Fraction], flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0: how often random signs give a sum at least as far from
    0 as the observed one.

    Exact if at most `EXACT` differences are not 0; otherwise (hits + 1) / (flips + 1), reproducible
    by seed.
    """
    unit = math.lcm(*(d.denominator for d in differences))
    sizes = [int(abs(d) * unit) for d in differences if d]
    observed = abs(int(sum(differences) * unit))
    if len(sizes) <= EXACT:
        sums = Counter({0: 1})
        for size in sizes:
            sums = Counter({s + size: n for s, n in sums.items()}) + Counter(
                {s - size: n for s, n in sums.items()}
            )
        return sum(n for s, n in sums.items() if abs(s) >= observed) / 2 ** len(sizes)
    generator, counts = random.Random(seed), Counter(sizes)
    hits = 0
    for _ in range(flips):
        total = sum(
            size * (2 * generator.getrandbits(n).bit_count() - n) for size, n in counts.items()
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


@dataclass(frozen=True)
class _Outcome:
    """Whether each sample of a run is correct, by problem, and how many samples broke."""

    name: str
    verdicts: _Verdicts
    broken: int
    units: Mapping[str, str]  # the independent observation that a problem belongs to

    @property
    def single(self) -> bool:
        """Whether every problem has one sample."""
        return all(len(verdicts) == 1 for verdicts in self.verdicts.values())

    def share(self, id: str) -> Fraction:
        """The share of a problem's samples that are correct."""
        verdicts = self.verdicts[id]
        return Fraction(sum(verdicts), len(verdicts))


def _outcome(name: str, records: Sequence[Record]) -> _Outcome:
    if not records:
        raise ValueError(f"{name} is empty: it has no records")
    verdicts: _Verdicts = {}
    for record in records:
        if not record.has_verdict:
            raise ValueError(
                f"{name}: a sample of problem {_short(record.id)} has no verdict (no field "
                f"'correct')"
            )
        verdicts.setdefault(record.id, []).append(record.correct and not record.broken)
    units = {record.id: solved_problem(record) for record in records}
    return _Outcome(name, verdicts, sum(record.broken for record in records), units)


def _comparison(before: _Outcome, after: _Outcome) -> Comparison:
    shares = {id: (before.share(id), after.share(id)) for id in before.verdicts}
    clusters: dict[str, list[Fraction]] = {}
    for id, (old, new) in shares.items():
        clusters.setdefault(before.units[id], []).append(new - old)
    half = Fraction(1, 2)
    gained = tuple(id for id, (old, new) in shares.items() if old < half < new)
    lost = tuple(id for id, (old, new) in shares.items() if new < half < old)
    differences = [new - old for old, new in shares.values()]
    n = len(differences)
    if len(clusters) < n:  # drafts of one problem are no independent observations
        p = sign_flip([sum(some, Fraction()) for some in clusters.values()])
        test = "sign-flip permutation by problem"
        low, high = clustered_interval([list(map(float, some)) for some in clusters.values()])
    elif before.single and after.single:
        p, test = mcnemar(len(gained), len(lost)), "exact McNemar"
        low, high = paired_interval(len(gained), len(lost), n)
    else:
        p, test = sign_flip(differences), "sign-flip permutation"
        low, high = spread_interval([float(difference) for difference in differences])
    return Comparison(
        a=before.name,
        b=after.name,
        problems=n,
        difference=float(sum(differences) / n),
        low=low,
        high=high,
        p=p,
        p_adjusted=p,
        gained=gained,
        lost=lost,
        test=test,
        accuracy=(
            float(sum(old for old, _ in shares.values()) / n),
            float(sum(new for _, new in shares.values()) / n),
        ),
        broken=(before.broken, after.broken),
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
