"""Numbers about evaluation records, each with its n and a 95 % interval."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slm_math.rollout.figures import figures, reward_figures
from slm_math.rollout.programs import Programs, programs

Z = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson(right: float, n: int) -> tuple[float, float]:
    """95 % interval of a share `right / n` (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = right / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return 0.0 if right == 0 else centre - half, 1.0 if right == n else centre + half


def clustered(shares: Sequence[float], counts: Sequence[int] | None = None) -> tuple[float, float]:
    """95 % interval of a mean over problems, each with a share of right samples: normal, on the spread of problems.

    `counts` says how many problems have each share; by default one. Problems without any spread count as one sample
    each (Wilson): that two problems are all wrong does not prove that the third one is.
    """
    weights = [1] * len(shares) if counts is None else counts
    n = sum(weights)
    if n < 2:
        return 0.0, 1.0
    mean = sum(w * share for w, share in zip(weights, shares)) / n
    if all(share == shares[0] for share in shares):
        return wilson(mean * n, n)
    half = Z * math.sqrt(sum(w * (share - mean) ** 2 for w, share in zip(weights, shares)) / (n - 1) / n)
    return max(mean - half, 0.0), min(mean + half, 1.0)


@dataclass(frozen=True)
class Summary:
    """What an evaluation came to: `figures` (see there) of `n` samples, accuracy with its 95 % interval.

    `errors` and `undecided` samples (which broke, or which the grader could not settle) count as not right. `expected`
    is the number of samples that the whole evaluation has.
    """

    problems: int
    n: int
    low: float
    high: float
    seconds: float
    programs: Programs
    figures: Mapping[str, float]
    expected: int

    @property
    def accuracy(self) -> float:
        return self.figures["accuracy"]

    @property
    def errors(self) -> int:
        return int(self.figures["errors"])

    def shown(self) -> str:
        """Accuracy as people read it: `83.3 % [78.7, 87.1], n = 300`."""
        partial = f" of {self.expected} (partial)" if self.n < self.expected else ""
        n = self.n if partial else self.problems
        return f"{100 * self.accuracy:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {n}{partial}"

    def values(self) -> dict[str, float]:
        """As metrics."""
        own = {name: getattr(self, name) for name in ("problems", "n", "low", "high", "seconds")}
        return {name: float(value) for name, value in ({"programs": 0} | own | dict(self.figures)).items()}


def summarise(records: Iterable[Mapping[str, Any]], expected: int | None = None) -> Summary:
    """A summary of records; `expected` samples, by default as many as there are."""
    rows = list(records)
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_problem[row["id"]].append(row["correct"])
    shares = [sum(marks) / len(marks) for marks in by_problem.values()]
    right = sum(row["correct"] for row in rows)
    repeated = {}
    if len(rows) > len(shares):
        from slm_math.evaluation.samples import sampled  # numpy, which `slm-math grade` does without

        repeated = sampled(rows)
    low, high = wilson(right, len(rows)) if len(rows) == len(shares) else clustered(shares)
    return Summary(
        problems=len(shares),
        n=len(rows),
        low=low,
        high=high,
        seconds=sum(row["seconds"] for row in rows) / max(len(rows), 1),
        programs=programs(event for row in rows for event in row["events"] if event["kind"] == "run"),
        figures=figures(rows) | repeated | rewarded(rows),
        expected=len(rows) if expected is None else expected,
    )


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
    return {value: summarise(rows) for value, rows in sorted(groups.items())}
