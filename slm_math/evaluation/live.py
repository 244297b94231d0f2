"""A table on the terminal that is updated while evaluations run."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
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

from slm_math.evaluation.plain import plain, print_line
from slm_math.metrics.groups import Groups
from slm_math.metrics.intervals import interval
from slm_math.records.record import Record

SHOWN_EVERY = 0.1  # seconds


class Bars(Progress):
    """Progress bars in a table with headings."""

    headings: Sequence[str] = ()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.show_header = True
        for column, heading in zip(table.columns, self.headings):
            column.header = heading
        return table


@dataclass(frozen=True)
class State:
    """How far something is: `done` of `total` (samples, bytes), accuracy so far with its interval
    (shares), and texts for the columns and for the plain line.
    """

    done: int
    total: int
    accuracy: float
    low: float
    high: float
    rate: str
    line: str
    programs: str = ""


class Live:
    """A live table with one row per name: progress, accuracy so far with its interval, rate, time
    left.

    Without a terminal, a plain line every `seconds` instead. `amount` is the column that shows how
    much is done, by default the number of samples.
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
        self._last_line = time.monotonic()
        self._shown: dict[str, float] = {}  # when the row of a name changed
        columns = {
            "": TextColumn("{task.description}", markup=False),
            " ": BarColumn(bar_width=20),
            "done": amount or MofNCompleteColumn(),
            "accuracy so far": TextColumn("{task.fields[accuracy]}"),
            "rate": TextColumn("{task.fields[rate]}"),
            "programs": TextColumn("{task.fields[programs]}"),
            "left": TimeRemainingColumn(),
        }
        if amount is not None:
            del columns["programs"]
        self.bars = Bars(*columns.values(), console=console, disable=not console.is_terminal)
        self.bars.headings = tuple(columns)

    def __enter__(self) -> Live:
        fields: dict[str, Any] = {"rate": "", "accuracy": "", "programs": ""}
        self.rows = {
            name: self.bars.add_task(plain(name, 200), total=None, start=False, **fields)
            for name in self.names
        }
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def progress(self, name: str) -> Callable[[Sequence[Record], int], None]:
        """A callback for `evaluate` that shows the records of one agent in its row."""
        start = time.monotonic()
        resumed: int | None = None  # records that an earlier session left
        counted = tokens = programs = 0
        problems = Groups(2)  # samples, and correct ones
        shares: Counter[tuple[int, ...]] = Counter()  # how many problems have these

        def show(records: Sequence[Record], total: int) -> None:
            nonlocal resumed, counted, tokens, programs
            done = len(records)
            resumed = done - 1 if resumed is None else resumed
            for index in range(counted, done):
                record = records[index]
                own = problems.add(record.id, (1, record.correct))
                shares[own] += 1
                if own[0] > 1:
                    shares[own[0] - 1, own[1] - record.correct] -= 1
                programs += len(record.runs)
                tokens += record.tokens if index >= resumed else 0
            counted = done
            if not self._is_due(name) and done < total:
                return
            rate = f"{tokens / max(time.monotonic() - start, 1e-9):.0f} tokens/s"
            known: Counter[float] = Counter()
            for (n, correct), times in shares.items():
                if times:
                    known[correct / n] += times  # one of one, and two of two
            low, high = interval(list(known), done, list(known.values()))
            self.show(
                name,
                State(
                    done=done,
                    total=total,
                    accuracy=sum(share * n for share, n in known.items()) / len(problems),
                    low=low,
                    high=high,
                    rate=rate,
                    line=f"{done} of {total}, {rate}"
                    + (f", {programs} programs" if programs else ""),
                    programs=f"{programs}" if programs else "",
                ),
            )

        return show

    def _is_due(self, name: str) -> bool:
        """Whether the row of a name, or its plain line, may change now: a state of many records
        takes a while to compute.
        """
        now = time.monotonic()
        if now - self._shown.get(name, -math.inf) < min(SHOWN_EVERY, self.seconds):
            return False
        self._shown[name] = now
        return True

    def show(self, name: str, state: State) -> None:
        """Updates the row of a name, or prints its plain line when it is time for one."""
        accuracy, low, high = (100 * share for share in (state.accuracy, state.low, state.high))
        shown = f"{accuracy:.1f} % [{low:.1f}, {high:.1f}]"
        row = self.rows[name]
        if self.bars.tasks[row].start_time is None:
            self.bars.start_task(row)
        self.bars.update(
            row,
            completed=state.done,
            total=state.total,
            accuracy=shown,
            rate=state.rate,
            programs=state.programs,
        )
        if not self.console.is_terminal and time.monotonic() - self._last_line >= self.seconds:
            self._last_line = time.monotonic()
            print_line(self.console, f"{name}: {state.line}, accuracy {shown}")
