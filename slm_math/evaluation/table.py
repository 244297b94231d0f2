"""Tables of evaluation results for people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from slm_math.evaluation.metrics import Summary, wilson


def results_table(
    title: str, rows: Mapping[str, Summary], extra: str = "", values: Mapping[str, str] | None = None
) -> Table:
    """One row per agent: accuracy with interval, what went missing, programs, cost; `values` in a column `extra`."""
    table = Table(title=escape(title), title_justify="left")
    table.add_column("agent", no_wrap=True)
    table.add_column("accuracy, 95 % interval", justify="right", no_wrap=True)
    for name in ([extra] if extra else []) + ["no answer", "cut off", "ran", "tokens"]:
        table.add_column(name, justify="right")
    for name, s in rows.items():
        found = s.figures
        table.add_row(
            escape(name),
            s.shown()
            + (f", {s.errors} broken" if s.errors else "")
            + (f", {found['undecided']} undecided" if found["undecided"] else ""),
            *([(values or {}).get(name, "-")] if extra else []),
            f"{100 * found['no_answer']:.0f} %",
            f"{100 * found['truncated']:.0f} %",
            f"{100 * s.programs.share_ok:.0f} % of {s.programs.runs}" if s.programs.runs else "-",
            f"{found['tokens']:.0f}",
        )
    return table


def program_lines(rows: Mapping[str, Summary]) -> list[str]:
    """A line about the programs of every agent that ran some."""
    return [f"{name}: {s.programs.shown()}" for name, s in rows.items() if s.programs.runs]


def figure_lines(rows: Mapping[str, Summary]) -> list[str]:
    """Lines on what only some agents have: several samples of a problem, rounds, verdicts."""
    lines = []
    for name, found in ((name, s.figures) for name, s in rows.items()):
        parts = [
            f"{k} {100 * found[k]:.1f} [{100 * found[f'{k}_low']:.1f}, {100 * found[f'{k}_high']:.1f}]"
            for k in found
            if "@" in k and f"{k}_low" in found
        ]
        if "rounds" in found:
            shares = (f"{k.replace('_', ' ')} {100 * found[k]:.1f} %" for k in ("first_right", "improved", "degraded"))
            parts.append(f"{found['rounds']:.1f} rounds, {', '.join(shares)}")
        if "verifier_accuracy" in found:
            parts.append(f"verdicts that agree with the grader {100 * found['verifier_accuracy']:.1f} %")
        lines += [f"{name}: {'; '.join(parts)}"] if parts else []
    return lines


class Board(Progress):
    """Progress bars under headings: a table that lives."""

    headings: Sequence[str] = ()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.show_header = True
        for column, heading in zip(table.columns, self.headings):
            column.header = heading
        return table


class Live:
    """A live table, one row per name: how much is done, accuracy so far with its interval, rates, time left.

    Without a terminal, a plain line every `seconds`. `amount` is the column that says how much is done, samples by
    default.
    """

    def __init__(
        self, console: Console, *names: str, seconds: float = 30.0, amount: ProgressColumn | None = None
    ) -> None:
        self.console = console
        self.names = names
        self.seconds = seconds
        self._last = time.monotonic()
        columns = {
            "": TextColumn("{task.description}"),
            " ": BarColumn(bar_width=20),
            "done": amount or MofNCompleteColumn(),
            "accuracy so far": TextColumn("{task.fields[figure]}"),
            "rate": TextColumn("{task.fields[rate]}"),
            "programs": TextColumn("{task.fields[programs]}"),
            "left": TimeRemainingColumn(),
        }
        if amount is not None:
            del columns["programs"]
        self.progress = Board(*columns.values(), console=console, disable=not console.is_terminal)
        self.progress.headings = tuple(columns)

    def __enter__(self) -> Live:
        fields = {"rate": "", "figure": "", "programs": ""}
        self.tasks = {
            name: self.progress.add_task(escape(name), total=None, start=False, **fields) for name in self.names
        }
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def watcher(self, name: str) -> Callable[[int, int, Sequence[Mapping[str, Any]]], None]:
        """What `evaluate` tells of one agent's records, as a row of the table."""
        start, first, seen = time.monotonic(), None, 0
        right = tokens = programs = 0

        def watch(done: int, total: int, records: Sequence[Mapping[str, Any]]) -> None:
            nonlocal first, seen, right, tokens, programs
            first = done - 1 if first is None else first  # what an earlier run had done already
            for at, record in enumerate(records[seen:done], seen):
                right += bool(record["correct"])
                programs += sum(event["kind"] == "run" for event in record["events"])
                tokens += sum(event.get("tokens", 0) for event in record["events"]) if at >= first else 0
            seen = done
            speed = tokens / max(time.monotonic() - start, 1e-9)
            told = f"{done} of {total}, {speed:.0f} tokens/s" + (f", {programs} programs" if programs else "")
            self.show(name, done, total, right, done, f"{speed:.0f} tokens/s", told, f"{programs}" if programs else "")

        return watch

    def show(
        self, name: str, at: int, total: int, right: int, n: int, rate: str, told: str, programs: str = ""
    ) -> None:
        """`at` of `total` is done (samples, bytes), `right` of `n` samples are right; `told` is for the plain line."""
        low, high = wilson(right, n)
        figure = f"{100 * right / max(n, 1):.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        task = self.tasks[name]
        if self.progress.tasks[task].start_time is None:
            self.progress.start_task(task)
        self.progress.update(task, completed=at, total=total, figure=figure, rate=rate, programs=programs)
        if not self.console.is_terminal and time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self.console.print(f"{name}: {told}, accuracy {figure}", markup=False)


def decoding_line(name: str, folder: Path) -> str | None:
    """A line about how well an agent's requests filled the slots of local engines, from its summary."""
    path = folder / "summary.json"  # a killed evaluation left none
    used = json.loads(path.read_text(encoding="utf-8")).get("decoding", []) if path.is_file() else []
    parts = [
        f"{u['tokens']} tokens in {u['steps']} decode steps, {100 * u['occupancy']:.0f} % of {u['slots']} slots"
        for u in used
    ]
    return f"{name}: {'; '.join(parts)}" if parts else None
