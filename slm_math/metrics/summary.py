"""The summary of an evaluation: metrics of its records, each with its n and a 95 % interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_math.metrics.intervals import interval, pooled
from slm_math.metrics.programs import Programs, count_programs
from slm_math.metrics.records import record_metrics, reward_metrics
from slm_math.metrics.rounds import observations
from slm_math.metrics.verdicts import SIDES, balanced_interval, solved_problem, verdict_sides
from slm_math.metrics.warnings import summary_warnings
from slm_math.records.files import expected_samples, read_manifest, read_records
from slm_math.records.record import Record

if TYPE_CHECKING:
    from slm_math.metrics.calibration import VoteBin

MOST_TAG_VALUES = 30  # a tag with more values is not broken down


@dataclass(frozen=True)
class Summary:
    """The result of an evaluation: accuracy with its 95 % interval, and all `metrics` of `n`
    samples.

    With several samples per problem, accuracy is the mean over problems. `intervals` has (low,
    high, n) of other shares, `by` a summary of the problems with each value of a tag (level,
    subject), for tags with at most 30 values. Samples that broke (`errors`), that do not fit into
    the model's context (`skipped`) or that the grader could not decide (`undecided`) count as
    incorrect. `calibration` is that of verdicts with several samples. `warnings` are lines on what
    the numbers do not show. `expected` is the number of samples of the complete evaluation;
    `seconds` is the mean time per sample.
    """

    problems: int
    n: int
    low: float
    high: float
    seconds: float
    programs: Programs
    metrics: Mapping[str, float]
    expected: int
    intervals: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    by: Mapping[str, Mapping[str, Summary]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    calibration: tuple[VoteBin, ...] = ()

    @property
    def accuracy(self) -> float:
        return self.metrics["accuracy"]

    @property
    def errors(self) -> int:
        return int(self.metrics["errors"])

    def shown(self) -> str:
        """Accuracy in per cent as people read it: `83.3 [78.7, 87.1], n = 300`."""
        n = f"{self.problems}"
        if self.n < self.expected:
            samples = f" samples of {self.problems} problems" if self.n > self.problems else ""
            n = f"{self.n} of {self.expected}{samples} (partial)"
        return f"{100 * self.accuracy:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {n}"

    def all_metrics(self) -> dict[str, float]:
        """Everything as flat metrics; accuracy by tag as `level/3/accuracy`."""
        own = {name: getattr(self, name) for name in ("problems", "n", "low", "high", "seconds")}
        tagged = {
            f"{tag}/{value}/{name}": getattr(part, name)
            for tag, parts in self.by.items()
            for value, part in parts.items()
            for name in ("accuracy", "low", "high", "n")
        }
        return {
            name: float(value)
            for name, value in ({"programs": 0} | own | dict(self.metrics) | tagged).items()
        }

    def to_json(self) -> dict[str, Any]:
        """The data of summary.json."""
        intervals = {
            name: dict(zip(("low", "high", "n"), ends)) for name, ends in self.intervals.items()
        }
        calibration = {"calibration": list(map(vars, self.calibration))}
        return {
            **self.all_metrics(),
            "intervals": intervals,
            **(calibration if self.calibration else {}),
            "warnings": list(self.warnings),
        }


def summarize(
    records: Iterable[Record],
    expected: int | None = None,
    tags: bool = True,
    uses_python: bool = False,
) -> Summary:
    """A summary of records.

    Args:
        records: the samples.
        expected: samples of the complete evaluation; by default as many as there are.
        tags: summarize also by tag.
        uses_python: whether the agent can run programs; warns if none ran.
    """
    samples = list(records)
    by_problem: dict[str, list[bool]] = defaultdict(list)
    for record in samples:
        by_problem[record.id].append(record.correct)
    shares = [sum(verdicts) / len(verdicts) for verdicts in by_problem.values()]
    metrics = record_metrics(samples)
    bins: tuple[VoteBin, ...] = ()
    if len(samples) > len(shares):
        # imports numpy, which `slm-math grade` does without
        from slm_math.metrics.calibration import calibration_metrics, vote_bins
        from slm_math.metrics.samples import sample_metrics

        metrics |= sample_metrics(samples) | {"accuracy": sum(shares) / len(shares)}
        metrics |= calibration_metrics(samples)
        bins = vote_bins(samples)
    low, high = _accuracy_interval(samples, shares)
    names = dict.fromkeys(tag for record in samples for tag in record.tags) if tags else {}
    by_tags = {tag: by_tag(samples, tag) for tag in names}
    return Summary(
        problems=len(shares),
        n=len(samples),
        low=low,
        high=high,
        seconds=sum(record.seconds for record in samples) / max(len(samples), 1),
        programs=count_programs(run for record in samples for run in record.runs),
        metrics=metrics | _reward_metrics(samples),
        expected=len(samples) if expected is None else expected,
        intervals=share_intervals(samples),
        by={tag: parts for tag, parts in by_tags.items() if len(parts) <= MOST_TAG_VALUES},
        warnings=summary_warnings(samples, uses_python),
        calibration=bins,
    )


def _accuracy_interval(records: Sequence[Record], shares: Sequence[float]) -> tuple[float, float]:
    """That of the shares of correct samples of each problem; drafts of one problem are no
    independent observations.
    """
    units: dict[str, list[float]] = defaultdict(list)
    for record in records:
        units[solved_problem(record)].append(float(record.correct))
    if len(units) == len(shares):
        return interval(shares, len(records))
    return pooled(list(units.values()))


def read_summary(folder: Path) -> tuple[list[Record], Summary]:
    """The records of an evaluation's folder, without their texts, and their summary."""
    records = read_records(folder / "records.jsonl", Record.without_texts)
    programs = "sandbox" in read_manifest(folder).get("identity", {})
    return records, summarize(records, expected_samples(folder), uses_python=programs)


def share_intervals(records: Sequence[Record]) -> dict[str, tuple[float, float, int]]:
    """(low, high, n) of the metrics that are means of observations, and of `balanced_accuracy`;
    problems are the units, as for accuracy.
    """
    intervals = {}
    for name, pairs in observations(records).items():
        by_problem: dict[str, list[float]] = defaultdict(list)
        for problem_id, value in pairs:
            by_problem[problem_id].append(value)
        if pairs:
            intervals[name] = (*pooled(list(by_problem.values())), len(pairs))
    if set(SIDES) <= set(intervals):
        intervals["balanced_accuracy"] = balanced_interval(verdict_sides(records), intervals)
    return intervals


def _reward_metrics(records: Sequence[Record]) -> dict[str, float]:
    """`reward_metrics` of the records that have rewards; a group is the samples of a problem."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.rewards:
            groups[record.id].append(record)
    first = next(iter(groups.values()), None)
    return reward_metrics(list(groups.values()), list(first[0].rewards)) if first else {}


def by_tag(records: Iterable[Record], tag: str) -> dict[str, Summary]:
    """A summary for every value of a tag (level, subject, kind) of the problems."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if tag in record.tags:
            groups[record.tags[tag]].append(record)
    return {value: summarize(group, tags=False) for value, group in sorted(groups.items())}
