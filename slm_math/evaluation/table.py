"""Tables of evaluation results for people."""

from __future__ import annotations

import time
from collections import defaultdict
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

from slm_math.metrics.intervals import interval
from slm_math.metrics.summary import Summary
from slm_math.records.files import read_manifest


def results_table(
    title: str,
    rows: Mapping[str, Summary],
    extra: str = "",
    values: Mapping[str, str] | None = None,
) -> Table:
    """One row per agent: accuracy with interval, what went missing, programs, cost; `values` in a
    column `extra`.

    Columns that say nothing about any of them are left out.
    """
    found = {name: s.figures for name, s in rows.items()}
    ran = {
        name: f"{100 * s.programs.share_ok:.0f} % of {s.programs.runs}"
        for name, s in rows.items()
        if s.programs.runs
    }
    columns = {
        extra: values or {},
        "none": {
            name: f"{100 * f['no_answer']:.0f} %" for name, f in found.items() if f["no_answer"]
        },
        "cut off": {
            name: f"{100 * f['truncated']:.0f} %" for name, f in found.items() if f["truncated"]
        },
        "ran": ran,
        "tokens": {name: f"{f['tokens']:.0f}" for name, f in found.items()},
    }
    columns = {heading: cells for heading, cells in columns.items() if heading and cells}
    table = Table(title=escape(title), title_justify="left")
    table.add_column("agent", no_wrap=True)
    table.add_column("accuracy, 95 % interval", justify="right", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=heading in (extra, "tokens"))
    for name, s in rows.items():
        broken = f", {s.errors} broken" if s.errors else ""
        undecided = f", {found[name]['undecided']} undecided" if found[name]["undecided"] else ""
        cells = (cells.get(name, "-") for cells in columns.values())
        table.add_row(escape(name), s.shown() + broken + undecided, *cells)
    return table


def program_lines(rows: Mapping[str, Summary]) -> list[str]:
    """A line about the programs of every agent that ran some."""
    return [f"{name}: {s.programs.shown()}" for name, s in rows.items() if s.programs.runs]


def figure_lines(rows: Mapping[str, Summary]) -> list[str]:
    """Lines on what only some agents have: several samples of a problem, rounds, verdicts."""
    lines = []
    for name, found in ((name, s.figures) for name, s in rows.items()):
        parts = [
            f"{k} {100 * found[k]:.1f} [{100 * found[f'{k}_low']:.1f}, "
            f"{100 * found[f'{k}_high']:.1f}]"
            for k in found
            if "@" in k and f"{k}_low" in found
        ]
        if "rounds" in found:
            shares = (
                f"{k.replace('_', ' ')} {100 * found[k]:.1f} %"
                for k in ("first_right", "improved", "degraded")
            )
            parts.append(f"{found['rounds']:.1f} rounds, {', '.join(shares)}")
        if "verifier_accuracy" in found:
            parts.append(
                f"verdicts that agree with the grader {100 * found['verifier_accuracy']:.1f} %"
            )
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
    """A live table, one row per name: how much is done, accuracy so far with its interval, rates,
    time left.

    Without a terminal, a plain line every `seconds`. `amount` is the column that says how much is
    done, samples by default.
    """

    def __init__(
        self,
        console: Console,
        *names: str,
        seconds: float = 30.0,
        amount: ProgressColumn | None = None,
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
            name: self.progress.add_task(escape(name), total=None, start=False, **fields)
            for name in self.names
        }
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def watcher(self, name: str) -> Callable[[int, int, Sequence[Mapping[str, Any]]], None]:
        """What `evaluate` tells of one agent's records, as a row of the table."""
        start, first, seen = time.monotonic(), None, 0
        tokens = programs = 0
        marks: dict[str, list[bool]] = defaultdict(list)

        def watch(done: int, total: int, records: Sequence[Mapping[str, Any]]) -> None:
            nonlocal first, seen, tokens, programs
            first = done - 1 if first is None else first  # what an earlier run had done already
            for at, record in enumerate(records[seen:done], seen):
                marks[record["id"]].append(bool(record["correct"]))
                programs += sum(event["kind"] == "run" for event in record["events"])
                tokens += (
                    sum(event.get("tokens", 0) for event in record["events"]) if at >= first else 0
                )
            seen = done
            speed = tokens / max(time.monotonic() - start, 1e-9)
            told = f"{done} of {total}, {speed:.0f} tokens/s" + (
                f", {programs} programs" if programs else ""
            )
            shares = [sum(some) / len(some) for some in marks.values()]
            found = sum(shares) / len(shares), *interval(shares, done)
            self.show(
                name,
                done,
                total,
                found,
                f"{speed:.0f} tokens/s",
                told,
                f"{programs}" if programs else "",
            )

        return watch

    def show(
        self,
        name: str,
        at: int,
        total: int,
        found: tuple[float, float, float],
        rate: str,
        told: str,
        programs: str = "",
    ) -> None:
        """`at` of `total` is done (samples, bytes); `found`: accuracy so far, low, high; `told`:
        the plain line.
        """
        accuracy, low, high = (100 * value for value in found)
        figure = f"{accuracy:.1f} % [{low:.1f}, {high:.1f}]"
        task = self.tasks[name]
        if self.progress.tasks[task].start_time is None:
            self.progress.start_task(task)
        self.progress.update(
            task, completed=at, total=total, figure=figure, rate=rate, programs=programs
        )
        if not self.console.is_terminal and time.monotonic() - self._last >= self.seconds:
            self._last = time.monotonic()
            self.console.print(f"{name}: {told}, accuracy {figure}", markup=False)


def decoding_line(name: str, folder: Path) -> str | None:
    """A line about how well an agent's requests filled the slots of local engines, from its
    manifest.
    """
    used = [u for leg in read_manifest(folder).get("legs", []) for u in leg.get("decoding", [])]
    steps, room = sum(u["steps"] for u in used), sum(u["steps"] * u["slots"] for u in used)
    if not steps:
        return None
    tokens = sum(u["tokens"] for u in used)
    return (
        f"{name}: {tokens:.0f} tokens in {steps:.0f} decode steps, {100 * tokens / room:.0f} % of "
        f"the slots"
    )
