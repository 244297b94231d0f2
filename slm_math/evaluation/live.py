"""A table on the terminal that is updated while evaluations run."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
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
from rich.text import Text

from slm_math.evaluation.plain import as_name, plain, print_line
from slm_math.metrics.groups import AccuracySoFar
from slm_math.records.record import Record

SHOWN_EVERY = 0.1  # seconds
WATCHED_EVERY = 0.5  # seconds, what engines have done
RECENT = 10.0  # seconds whose tokens make the rate


class Bars(Progress):
    """Progress bars in a table with headings."""

    headings: Sequence[str] = ()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        table = super().make_tasks_table(tasks)
        table.show_header = True
        for column, heading in zip(table.columns, self.headings):
            column.header = heading
        return table


class Names(ProgressColumn):
    """What the rows are called."""

    def render(self, task: Task) -> Text:
        return as_name(task.description)


class Left(TimeRemainingColumn):
    """The time left by the tokens of the samples that ended, where these are known: many samples
    end at once, so that their number alone says little.
    """

    def render(self, task: Task) -> Text:
        seconds = task.fields.get("seconds_left")
        if seconds is None or task.finished:
            return super().render(task)
        return Text(str(timedelta(seconds=round(seconds))), style="progress.remaining")


class Decoded:
    """Tokens that engines have sampled for one row, also of replies that have not ended.

    `sampled` counts them, None if the engines do not say.
    """

    def __init__(self, name: str, total: int | None, sampled: Callable[[], int | None]) -> None:
        self.name = name
        self.total = total
        self.sampled = sampled
        self.before = sampled() or 0
        # samples that ended; those of them that no earlier command left; the tokens of these
        self.done = self.fresh = self.ended = 0
        self._counts = deque([(time.monotonic(), self.before)])

    def look(self) -> float | None:
        """Tokens per second of the last seconds; None where they are unknown."""
        tokens = self.sampled()
        if tokens is None:
            return None
        now = time.monotonic()
        self._counts.append((now, tokens))
        while len(self._counts) > 2 and now - self._counts[1][0] > RECENT:
            self._counts.popleft()
        (begin, first), (end, last) = self._counts[0], self._counts[-1]
        return (last - first) / max(end - begin, 1e-9)

    def seconds_left(self, rate: float) -> float | None:
        """By the mean length of the samples that ended; None before the first one."""
        if not self.fresh or self.total is None or rate <= 0:
            return None
        expected = (self.total - self.done + self.fresh) * self.ended / self.fresh
        return max(expected - (self._counts[-1][1] - self.before), 0.0) / rate


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
        self._decoded: Decoded | None = None  # of the evaluation under way
        self._watching: threading.Thread | None = None
        self._over = threading.Event()
        columns = {
            "": Names(),
            " ": BarColumn(bar_width=20),
            "done": amount or MofNCompleteColumn(),
            "accuracy so far": TextColumn("{task.fields[accuracy]}"),
            "rate": TextColumn("{task.fields[rate]}"),
            "programs": TextColumn("{task.fields[programs]}"),
            "left": Left(),
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
        self._over.set()
        if self._watching is not None:
            self._watching.join()
        self.bars.stop()

    def progress(
        self,
        name: str,
        total: int | None = None,
        sampled: Callable[[], int | None] = lambda: None,
    ) -> Callable[[Sequence[Record], int], None]:
        """A callback for `evaluate` that shows the records of one agent in its row.

        `total` is the number of samples, and `sampled` counts the tokens that engines have sampled
        so far, so that there is something to see before the first sample ends.
        """
        start = time.monotonic()
        decoded = self._decoded = Decoded(name, total, sampled)
        if total is not None:
            self.bars.start_task(self.rows[name])
            self.bars.update(self.rows[name], total=total)
            self._watch()
        resumed: int | None = None  # records that an earlier session left
        counted = tokens = programs = 0
        accuracy = AccuracySoFar()

        def show(records: Sequence[Record], total: int) -> None:
            nonlocal resumed, counted, tokens, programs
            done = len(records)
            resumed = done - 1 if resumed is None else resumed
            for index in range(counted, done):
                record = records[index]
                accuracy.add(record.id, 1, record.correct)
                programs += len(record.runs)
                tokens += record.tokens if index >= resumed else 0
            counted = done
            decoded.done, decoded.fresh, decoded.ended = done, done - resumed, tokens
            if not self._is_due(name) and done < total:
                return
            speed = decoded.look()
            if speed is None:
                speed = tokens / max(time.monotonic() - start, 1e-9)
            rate = f"{speed:.0f} tokens/s"
            share, low, high = accuracy.value()
            self.show(
                name,
                State(
                    done=done,
                    total=total,
                    accuracy=share,
                    low=low,
                    high=high,
                    rate=rate,
                    line=f"{done} of {total}, {rate}"
                    + (f", {programs} programs" if programs else ""),
                    programs=f"{programs}" if programs else "",
                ),
            )

        return show

    def _watch(self) -> None:
        """Starts to show what engines do between samples that end."""
        if self._watching is None:
            self._watching = threading.Thread(target=self._look, daemon=True)
            self._watching.start()

    def _look(self) -> None:
        while not self._over.wait(WATCHED_EVERY):
            decoded = self._decoded
            rate = decoded.look() if decoded is not None else None
            if decoded is None or rate is None:
                continue
            left = decoded.seconds_left(rate)
            text = f"{rate:.0f} tokens/s"
            self.bars.update(self.rows[decoded.name], rate=text, seconds_left=left)
            if not decoded.fresh:  # or the lines come with the samples that end
                self._line(f"{decoded.name}: {decoded.done} of {decoded.total}, {text}")

    def _line(self, text: str) -> None:
        """Prints a plain line when it is time for one."""
        if not self.console.is_terminal and time.monotonic() - self._last_line >= self.seconds:
            self._last_line = time.monotonic()
            print_line(self.console, text)

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
        self._line(f"{name}: {state.line}, accuracy {shown}")
