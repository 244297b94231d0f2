"""Numbers about evaluation records, each with its n and a 95 % interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slm_math.metrics.intervals import interval, pooled
from slm_math.metrics.programs import Programs, programs
from slm_math.metrics.records import figures, reward_figures
from slm_math.metrics.rounds import marks


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
        from slm_math.metrics.samples import sampled

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
