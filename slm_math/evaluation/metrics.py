"""Numbers about evaluation records, each with its n and a 95 % interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slm_math.rollout.figures import figures, reward_figures
from slm_math.rollout.programs import Programs, programs
from slm_math.rollout.rounds import marks

Z = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson(right: float, n: float) -> tuple[float, float]:
    """95 % interval of a share `right / n` (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = right / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return 0.0 if right == 0 else centre - half, 1.0 if right == n else centre + half


def t_point(freedom: int) -> float:
    """The 97.5 % point of Student's t, by its expansion at the normal's (Abramowitz and Stegun,
    26.7.5).
    """
    z, v = Z, freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v**power for power, term in enumerate(terms, 1))


def clustered(shares: Sequence[float], counts: Sequence[int] | None = None) -> tuple[float, float]:
    """95 % interval of a mean over problems, each with a share of right samples, on the spread of
    problems.

    Wilson's, with as many samples as would leave the same variance, fewer when there are few
    problems (Korn and Graubard 1998). `counts` says how many problems have each share; by default
    one. Problems without any spread count as one sample each: that two problems are all wrong does
    not prove that the third one is.
    """
    weights = [1] * len(shares) if counts is None else counts
    n = sum(weights)
    if n < 2:
        return 0.0, 1.0
    mean = sum(w * share for w, share in zip(weights, shares)) / n
    if all(share == shares[0] for share in shares):
        return wilson(mean * n, n)
    variance = sum(w * (share - mean) ** 2 for w, share in zip(weights, shares)) / (n - 1) / n
    effective = mean * (1 - mean) / variance * (Z / t_point(n - 1)) ** 2
    return wilson(mean * effective, effective)


@dataclass(frozen=True)
class Summary:
    """What an evaluation came to: `figures` (see there) of `n` samples, accuracy with its 95 %
    interval.

    Of several samples a problem, accuracy is the mean over problems. `intervals` has (low, high, n)
    of other shares, `by` a summary of the problems with each value of a tag (level, subject), where
    there are at most 30. `errors` and `undecided` samples (which broke, or which the grader could
    not settle) count as not right. `expected` is the number of samples that the whole evaluation
    has.
    """

    problems: int
    n: int
    low: float
    high: float
    seconds: float
    programs: Programs
    figures: Mapping[str, float]
    expected: int
    intervals: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    by: Mapping[str, Mapping[str, Summary]] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        return self.figures["accuracy"]

    @property
    def errors(self) -> int:
        return int(self.figures["errors"])

    def shown(self) -> str:
        """Accuracy as people read it: `83.3 % [78.7, 87.1], n = 300`."""
        n = f"{self.problems}"
        if self.n < self.expected:
            some = f" samples of {self.problems} problems" if self.n > self.problems else ""
            n = f"{self.n} of {self.expected}{some} (partial)"
        return f"{100 * self.accuracy:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {n}"

    def values(self) -> dict[str, float]:
        """As metrics; accuracy by tag as `level/3/accuracy`."""
        own = {name: getattr(self, name) for name in ("problems", "n", "low", "high", "seconds")}
        tagged = {
            f"{tag}/{value}/{name}": getattr(part, name)
            for tag, parts in self.by.items()
            for value, part in parts.items()
            for name in ("accuracy", "low", "high", "n")
        }
        return {
            name: float(value)
            for name, value in ({"programs": 0} | own | dict(self.figures) | tagged).items()
        }

    def data(self) -> dict[str, Any]:
        """As written to summary.json."""
        named = {
            name: dict(zip(("low", "high", "n"), found)) for name, found in self.intervals.items()
        }
        return self.values() | {"intervals": named}


def summarise(
    records: Iterable[Mapping[str, Any]], expected: int | None = None, tags: bool = True
) -> Summary:
    """A summary of records; `expected` samples, by default as many as there are; `tags`: also by
    tag.
    """
    rows = list(records)
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_problem[row["id"]].append(row["correct"])
    shares = [sum(marks) / len(marks) for marks in by_problem.values()]
    found = figures(rows)
    if len(rows) > len(shares):
        # numpy, which `slm-math grade` does without
        from slm_math.evaluation.samples import sampled

        found |= sampled(rows) | {"accuracy": sum(shares) / len(shares)}
    low, high = interval(shares, len(rows))
    names = dict.fromkeys(tag for row in rows for tag in row["tags"]) if tags else {}
    return Summary(
        problems=len(shares),
        n=len(rows),
        low=low,
        high=high,
        seconds=sum(row["seconds"] or 0 for row in rows) / max(len(rows), 1),
        programs=programs(
            event for row in rows for event in row["events"] if event["kind"] == "run"
        ),
        figures=found | rewarded(rows),
        expected=len(rows) if expected is None else expected,
        intervals=share_intervals(rows),
        by={tag: parts for tag in names if len(parts := by_tag(rows, tag)) <= 30},
    )


def interval(shares: Sequence[float], samples: int) -> tuple[float, float]:
    """Of an accuracy, given the share of right samples of each problem: Wilson's for one sample
    each.
    """
    return wilson(sum(shares), len(shares)) if samples == len(shares) else clustered(shares)


def share_intervals(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float, int]]:
    """(low, high, n) of the shares that are means of marks (`rollout.rounds.marks`), on problems as
    accuracy's is.
    """
    found = {}
    for name, given in marks(rows).items():
        by_problem: dict[str, list[float]] = defaultdict(list)
        for id, mark in given:
            by_problem[id].append(mark)
        if given:
            found[name] = (*pooled(list(by_problem.values())), len(given))
    return found


def pooled(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % interval of the share of all marks, given those of each problem, of which some have more
    than others.

    Wilson's for one mark each. Else the variance is that of a ratio of sums over problems (Cochran
    1977, section 6.3), and the interval as in `clustered`.
    """
    n, total = len(groups), sum(map(len, groups))
    share = sum(map(sum, groups)) / total
    if total == n or n < 2 or share in (0.0, 1.0):
        return wilson(share * n, n)
    residuals = [sum(some) - share * len(some) for some in groups]
    variance = n / (n - 1) * sum(r * r for r in residuals) / total**2
    if not variance:
        return wilson(share * n, n)
    effective = share * (1 - share) / variance * (Z / t_point(n - 1)) ** 2
    return wilson(share * effective, effective)


def rewarded(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`reward_figures` of records that have rewards, the samples of a problem in a group."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if "rewards" in row:
            groups[row["id"]].append(row)
    first = next(iter(groups.values()), None)
    return reward_figures(list(groups.values()), list(first[0]["rewards"])) if first else {}


def by_tag(records: Iterable[Mapping[str, Any]], tag: str) -> dict[str, Summary]:
    """A summary for every value of a tag (level, subject, kind) that problems carry."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        if tag in record["tags"]:
            groups[record["tags"][tag]].append(record)
    return {value: summarise(rows, tags=False) for value, rows in sorted(groups.items())}
