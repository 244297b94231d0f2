"""Tables of evaluation results for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
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
        table.add_row(
            name,
            s.shown() + (f", {s.errors} broken" if s.errors else ""),
            f"{100 * s.no_answer:.0f} %",
            f"{100 * s.truncated:.0f} %",
            f"{100 * s.programs_ran:.0f} % of {s.programs}" if s.programs else "-",
            f"{s.tokens:.0f}",
        )
    return table


class Live:
    """A progress bar for one agent's evaluation: rate, time left, accuracy so far with its interval.

    Without a terminal, a plain line every `seconds`.
    """

    def __init__(self, console: Console, name: str, seconds: float = 30.0) -> None:
        self.console = console
        self.name = name
        self.seconds = seconds
        self._last = time.monotonic()
        self._right: int = 0
        self._seen = 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figure]}"),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Live:
        self.progress.start()
        self.task = self.progress.add_task(self.name, total=None, rate="", figure="")
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def watch(self, done: int, total: int, records: Sequence[Mapping[str, Any]]) -> None:
        self._right += sum(bool(record["correct"]) for record in records[self._seen : done])
        self._seen = done
        low, high = wilson(self._right, done)
        figure = f"accuracy {self._right / done:.3f} [{low:.3f}, {high:.3f}]"
        speed = self.progress.tasks[self.task].speed
        rate = f"{speed:.1f}/s" if speed else ""
        self.progress.update(self.task, completed=done, total=total, figure=figure, rate=rate)
        if not self.console.is_terminal and time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self.console.print(f"{self.name}: {done} of {total}, {figure}", markup=False)
