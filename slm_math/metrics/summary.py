"""The summary of an evaluation: metrics of its records, each with its n and a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slm_math.metrics.arrays import in_order, occurrences
from slm_math.metrics.calibration import VoteBin, calibration_metrics, vote_bins
from slm_math.metrics.columns import Samples
from slm_math.metrics.facts import SIDES
from slm_math.metrics.intervals import interval, pooled
from slm_math.metrics.observed import known
from slm_math.metrics.programs import Programs
from slm_math.metrics.records import (
    correct_by_problem,
    evaluation_rewards,
    program_counts,
    record_metrics,
)
from slm_math.metrics.rounds import observations
from slm_math.metrics.samples import sample_metrics
from slm_math.metrics.verdicts import balanced_interval, verdict_sides
from slm_math.metrics.warnings import summary_warnings
from slm_math.records.eval_folders import TWIN_OF
from slm_math.records.files import expected_samples, read_manifest
from slm_math.records.record import Record
from slm_math.records.stored import StoredRecords

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
    the numbers do not show. If the `units` of intervals are clusters of problems, `cluster` says by
    what. `expected` is the number of samples of the complete evaluation;
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
    cluster: str | None = None
    units: int = 0

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
        if self.cluster is not None:
            n += f", {self.units} {self.cluster.removesuffix('s')}s"
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
    records: Samples | Iterable[Record],
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
    samples = Samples.of(records)
    shares = _shares(samples)
    metrics = record_metrics(samples)
    bins: tuple[VoteBin, ...] = ()
    if len(samples) > len(shares):
        metrics |= sample_metrics(samples) | {"accuracy": sum(shares.data) / len(shares)}
        metrics |= calibration_metrics(samples)
        bins = vote_bins(samples)
    low, high = _accuracy_interval(samples, shares)
    names = [tag for tag in samples.tags if tags and tag != TWIN_OF]
    by_tags = {tag: by_tag(samples, tag) for tag in names if _few(samples.tag_counts(tag))}
    return Summary(
        problems=len(shares),
        n=len(samples),
        low=low,
        high=high,
        seconds=sum(samples.seconds.data) / max(len(samples), 1),
        programs=program_counts(samples),
        metrics=metrics | evaluation_rewards(samples),
        expected=len(samples) if expected is None else expected,
        intervals=share_intervals(samples),
        by=by_tags,
        warnings=summary_warnings(samples, uses_python),
        calibration=bins,
        cluster=samples.cluster,
        units=len(in_order(samples.units)[0]),
    )


def _shares(samples: Samples) -> np.ndarray:
    """The share of correct samples of each problem."""
    sizes, right = correct_by_problem(samples)
    return right / sizes


def _few(values: Collection[str]) -> bool:
    return 0 < len(values) <= MOST_TAG_VALUES


def _accuracy_interval(samples: Samples, shares: np.ndarray) -> tuple[float, float]:
    """That of the shares of correct samples of each problem; drafts of one problem are no
    independent observations.
    """
    own = np.empty(len(shares), np.int64)  # the unit of each problem
    own[in_order(samples.problems)[1]] = in_order(samples.units)[1]
    different, numbers = in_order(own)
    if len(different) == len(shares):
        return interval(shares.data, len(samples))
    sums = np.bincount(numbers, weights=shares, minlength=len(different))
    return pooled(sums.data, occurrences(numbers, len(different)).data)


def read_samples(folder: Path) -> Samples:
    """The samples of an evaluation's folder. Raises ValueError for a file that holds others."""
    return Samples.of(StoredRecords(folder / "records.jsonl", by_key=False))


def read_summary(
    folder: Path, units: Callable[[Samples], Samples] = lambda samples: samples
) -> tuple[Samples, Summary]:
    """The samples of an evaluation's folder, with the units that `units` gives them, and their
    summary.
    """
    samples = units(read_samples(folder))
    programs = "sandbox" in read_manifest(folder).get("identity", {})
    return samples, summarize(samples, expected_samples(folder), uses_python=programs)


def share_intervals(samples: Samples) -> dict[str, tuple[float, float, int]]:
    """(low, high, n) of the metrics that are means of observations, and of `balanced_accuracy`;
    problems are the units, as for accuracy.
    """
    intervals = {name: one.interval() for name, one in known(observations(samples)).items()}
    if set(SIDES) <= set(intervals):
        intervals["balanced_accuracy"] = balanced_interval(verdict_sides(samples), intervals)
    return intervals


def by_tag(records: Samples | Iterable[Record], tag: str) -> dict[str, Summary]:
    """A summary for every value of a tag (level, subject, kind) of the problems."""
    parts = Samples.of(records).by_tag(tag)
    return {value: summarize(part, tags=False) for value, part in parts}
