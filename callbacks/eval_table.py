"""What an evaluation during training found out, as metrics to log and as a table to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console

from slm_math.evaluation.blind import BLIND, BlindControl, blind_control
from slm_math.evaluation.compare import Comparison
from slm_math.evaluation.evaluate import Evaluation
from slm_math.evaluation.plain import print_line
from slm_math.evaluation.table import (
    results_table,
    summary_lines,
    verdicts_table,
    warning_lines,
)
from slm_math.evaluation.twins import Gap, memorization_gap
from slm_math.metrics.summary import Summary
from slm_math.records.eval_folders import TWINS


@dataclass
class EvalTable:
    """The evaluations of one moment of training; `first` names the one that gains are over."""

    first: str | None
    summaries: dict[str, Summary] = field(default_factory=dict)
    gains: dict[str, Comparison] = field(default_factory=dict)
    controls: dict[str, BlindControl] = field(default_factory=dict)
    gaps: dict[str, Gap] = field(default_factory=dict)

    def add(
        self, key: str, runs: Mapping[str, Evaluation], gain: Comparison | None
    ) -> dict[str, float]:
        """Adds the evaluation of an agent, with its blind control and its twins if there are some,
        and returns its metrics.
        """
        self.summaries |= {f"{key}{arm}": run.summary for arm, run in runs.items()}
        metrics = runs[""].summary.all_metrics()
        if gain is not None:
            self.gains[key] = gain
            metrics |= {
                "gain": gain.difference,
                "gain_low": gain.low,
                "gain_high": gain.high,
                "gain_p": gain.p,
            }
        if BLIND in runs:
            self.controls[key] = blind_control(runs[""].samples, runs[BLIND].samples)
            metrics |= self.controls[key].metrics
        if TWINS in runs:
            self.gaps[key] = memorization_gap(runs[""].samples, runs[TWINS].samples)
            metrics |= self.gaps[key].metrics
        return metrics

    def print(self, console: Console, title: str) -> None:
        heading = f"since {self.first}" if self.gains else ""
        cells = {key: gain.shown_difference() for key, gain in self.gains.items()}
        accuracies = results_table(title, self.summaries, heading, cells)
        for table in filter(None, (accuracies, verdicts_table(self.summaries))):
            console.print(table)
        for line in (
            *(f"{key}: {control.shown()}" for key, control in self.controls.items()),
            *(f"{key}: {gap.shown()}" for key, gap in self.gaps.items()),
            *summary_lines(self.summaries),
            *warning_lines(self.summaries),
        ):
            print_line(console, line)
