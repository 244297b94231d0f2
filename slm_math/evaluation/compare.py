"""Whether one run is better than another: paired on problems, with an interval, a test, and the
problems that flipped.

With one sample of every problem in both runs: the difference's interval by Agresti and Min (2005,
Statistics in Medicine 24:729) and McNemar's exact test. With several: the mean of the problems'
differences, its interval on their spread, and a sign-flip permutation test. Several comparisons are
corrected as Holm (1979) does.
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

Record: TypeAlias = Mapping[str, Any]
_Marks: TypeAlias = dict[str, list[bool]]  # by problem

FLIPS = 10_000  # random sign flips; all of them where there are at most 2 ** EXACT
EXACT = 14


@dataclass(frozen=True)
class Comparison:
    """Run `b` against the baseline `a`, over the same `problems`.

    `accuracy` (of a, of b) and `difference` (b - a, with its 95 % interval `low`, `high`) are
    shares, means over problems. `p` is two-sided; `p_adjusted` is Holm's, over all comparisons of
    the list. `gained` and `lost` are ids of problems that b solves and a does not, and the other
    way round; with several samples, in most of them. `broken` samples (of a, of b), which no
    verdict came from, count as not right.
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
        """As people read it, in per cent: `+12.0 [3.1, 20.9], p = 0.011 (Holm 0.022), 14 gained, 2
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
        difference, low, high = (
            round(100 * value, 1) + 0.0 for value in (self.difference, self.low, self.high)
        )
        return f"{difference:+.1f} [{low:.1f}, {high:.1f}]"


def shown_p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def compare(runs: Mapping[str, Sequence[Record]]) -> list[Comparison]:
    """Compares every run with the first, given the records of each by name.

    Raises ValueError when there is nothing to compare, or when the runs are not of the same
    problems.
    """
    if len(runs) < 2:
        raise ValueError(f"nothing to compare: name two runs or more, got {len(runs)}")
    marks = {name: _marks(name, rows) for name, rows in runs.items()}
    (a, before), *others = runs.items()
    for b, after in others:
        check_paired(a, before, b, after)
    return adjusted(
        [
            _compared(a, b, marks[a], marks[b], _broken(before), _broken(after))
            for b, after in others
        ]
    )


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_adjusted` over all of them."""
    return [replace(c, p_adjusted=p) for c, p in zip(comparisons, holm([c.p for c in comparisons]))]


def check_paired(a: str, before: Sequence[Record], b: str, after: Sequence[Record]) -> None:
    """Raises ValueError unless two runs are of the same problems, and graded against the same
    answers.
    """
    rules = {row["id"]: _rules(row) for row in before}
    others = {row["id"]: _rules(row) for row in after}
    if rules.keys() != others.keys():
        missing = [
            (n, [id for id in mine if id not in yours])
            for n, mine, yours in ((a, rules, others), (b, others, rules))
        ]
        told = " and ".join(
            f"{len(ids)} only in {name} (such as {_short(ids[0])})" for name, ids in missing if ids
        )
        raise ValueError(
            f"{a} and {b} are not of the same problems: {told} besides "
            f"{len(rules.keys() & others.keys())} in both; "
            "evaluate both with the same --source, --split and --limit"
        )
    for id, mine in rules.items():
        for name, value, other in zip(
            ("problem", "gold", "answer_type", "choices", "tolerance"), mine, others[id]
        ):
            if value != other:
                raise ValueError(
                    f"problem {_short(id)} has another {name} in {b} than in {a} "
                    f"({_short(other)}, {_short(value)}): "
                    "the runs are of different data; evaluate both on one source"
                )


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test: of `gained + lost` problems that changed, either way is
    equally likely.
    """
    n, term, total = gained + lost, 1, 0
    for i in range(min(gained, lost) + 1):
        total += term
        term = term * (n - i) // (i + 1)
    return min(1.0, 2 * total / 2**n)


def paired_interval(gained: float, lost: float, n: int) -> tuple[float, float]:
    """95 % interval of `(gained - lost) / n` of n pairs: 1/2 is added to each of the four cells
    (Agresti, Min 2005).
    """
    centre = (gained - lost) / (n + 2)
    half = Z * math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / (n + 2)) / (n + 2)
    return max(centre - half, -1.0), min(centre + half, 1.0)


def spread_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of the problems' differences, on their spread; as if of one sample
    without any.
    """
    if len(set(differences)) > 1:
        n, mean = len(differences), math.fsum(differences) / len(differences)
        half = t_point(n - 1) * math.sqrt(
            math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n
        )
        return max(mean - half, -1.0), min(mean + half, 1.0)
    gained, lost = sum(d for d in differences if d > 0), -sum(d for d in differences if d < 0)
    return paired_interval(gained, lost, len(differences))


def sign_flip(differences: Sequence[Fraction], flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of a mean difference of 0: how often random signs give a sum as far from 0 as the
    one found.

    Exact where at most `EXACT` differences are not 0; otherwise (hits + 1) / (flips + 1), the same
    for the same seed.
    """
    unit = math.lcm(*(d.denominator for d in differences))
    sizes = [int(abs(d) * unit) for d in differences if d]
    found = abs(int(sum(differences) * unit))
    if len(sizes) <= EXACT:
        sums = Counter({0: 1})
        for size in sizes:
            sums = Counter({s + size: n for s, n in sums.items()}) + Counter(
                {s - size: n for s, n in sums.items()}
            )
        return sum(n for s, n in sums.items() if abs(s) >= found) / 2 ** len(sizes)
    draw, alike = random.Random(seed), Counter(sizes)
    hits = 0
    for _ in range(flips):
        up = sum(size * (2 * draw.getrandbits(n).bit_count() - n) for size, n in alike.items())
        hits += abs(up) >= found
    return (hits + 1) / (flips + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number: the i-th smallest times those left, never below a
    smaller one's.
    """
    result, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        result[i] = least
    return result


def _compared(a: str, b: str, before: _Marks, after: _Marks, *broken: int) -> Comparison:
    shares = {id: (_share(before[id]), _share(after[id])) for id in before}
    half = Fraction(1, 2)
    gained = tuple(id for id, (x, y) in shares.items() if x < half < y)
    lost = tuple(id for id, (x, y) in shares.items() if y < half < x)
    differences = [y - x for x, y in shares.values()]
    n = len(differences)
    if all(len(marks[id]) == 1 for marks in (before, after) for id in shares):
        p, test = mcnemar(len(gained), len(lost)), "exact McNemar"
        low, high = paired_interval(len(gained), len(lost), n)
    else:
        p, test = sign_flip(differences), "sign-flip permutation"
        low, high = spread_interval([float(d) for d in differences])
    first, second = (float(sum(pair[i] for pair in shares.values()) / n) for i in (0, 1))
    mean = float(sum(differences) / n)
    return Comparison(
        a, b, n, mean, low, high, p, p, gained, lost, test, (first, second), (broken[0], broken[1])
    )


def _marks(name: str, rows: Sequence[Record]) -> _Marks:
    """Whether each sample is right, by problem."""
    if not rows:
        raise ValueError(f"{name} is empty: no sample of it was recorded")
    marks: _Marks = {}
    for row in rows:
        if "correct" not in row:
            raise ValueError(
                f"{name}: a sample of problem {_short(row['id'])} has no verdict (no field "
                f"'correct')"
            )
        marks.setdefault(row["id"], []).append(bool(row["correct"]) and not _is_broken(row))
    return marks


def _share(marks: Sequence[bool]) -> Fraction:
    return Fraction(sum(marks), len(marks))


def _is_broken(row: Record) -> bool:
    return row.get("error") is not None


def _broken(rows: Sequence[Record]) -> int:
    return sum(_is_broken(row) for row in rows)


def _rules(row: Record) -> tuple[Any, ...]:
    """What a sample is graded by."""
    return (
        row.get("problem"),
        row.get("gold"),
        row.get("answer_type", "math"),
        row.get("choices", []),
        row.get("tolerance"),
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."
