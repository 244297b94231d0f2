"""Tables of evaluation results for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from slm_math.evaluation.metrics import Summary, wilson


def results_table(title: str, rows: Mapping[str, Summary]) -> Table:
    """One row per agent: accuracy with interval, what went missing, programs, cost."""
    table = Table(title=title, title_justify="left")
    table.add_column("agent", no_wrap=True)
    table.add_column("accuracy, 95 % interval", justify="right", no_wrap=True)
    for name in ("no answer", "cut off", "ran", "tokens"):
        table.add_column(name, justify="right")
    for name, s in rows.items():
        found = s.figures
        table.add_row(
            name,
            s.shown()
            + (f", {s.errors} broken" if s.errors else "")
            + (f", {found['undecided']} undecided" if found["undecided"] else ""),
            f"{100 * found['no_answer']:.0f} %",
            f"{100 * found['truncated']:.0f} %",
            f"{100 * s.programs.share_ok:.0f} % of {s.programs.runs}" if s.programs.runs else "-",
            f"{found['tokens']:.0f}",
        )
    return table


def program_lines(rows: Mapping[str, Summary]) -> list[str]:
    """A line about the programs of every agent that ran some."""
    return [f"{name}: {s.programs.shown()}" for name, s in rows.items() if s.programs.runs]


class Live:
    """A progress bar for one evaluation: rate, time left, accuracy so far with its interval.

    Without a terminal, a plain line every `seconds`. `amount` is the column that says how much is done, samples by
    default.
    """

    def __init__(
        self, console: Console, name: str, seconds: float = 30.0, amount: ProgressColumn | None = None
    ) -> None:
        self.console = console
        self.name = name
        self.seconds = seconds
        self._last = time.monotonic()
        self._right: int = 0
        self._seen = 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            amount or MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figure]}"),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Live:
        self.progress.start()
        self.task = self.progress.add_task(escape(self.name), total=None, rate="", figure="")
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def watch(self, done: int, total: int, records: Sequence[Mapping[str, Any]]) -> None:
        self._right += sum(bool(record["correct"]) for record in records[self._seen : done])
        self._seen = done
        speed = self.progress.tasks[self.task].speed
        self.show(done, total, self._right, done, speed, "/s", f"{done} of {total}")

    def show(self, at: int, total: int, right: int, n: int, rate: float | None, unit: str, told: str) -> None:
        """`at` of `total` is done (samples, bytes), `right` of `n` samples are right; `told` is for the plain line."""
        low, high = wilson(right, n)
        figure = f"accuracy {right / max(n, 1):.3f} [{low:.3f}, {high:.3f}]"
        shown = f"{rate:.1f}{unit}" if rate else ""
        self.progress.update(self.task, completed=at, total=total, figure=figure, rate=shown)
        if not self.console.is_terminal and time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self.console.print(f"{self.name}: {told}, {figure}", markup=False)
