"""What a cascade shows while it runs: how far it is, what is accepted, what is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from slm_math.evaluation.live import Bars
from slm_math.evaluation.plain import plain, print_line
from slm_math.metrics.intervals import wilson
from slm_math.records.record import Record
from slm_math.synthesis.cost import Spending, Spent
from slm_math.synthesis.cot import status
from slm_math.synthesis.statistics import projection, shown_amount, shown_interval


class CascadeProgress:
    """A bar with the rate, the time left, the accepted share, what was spent, and what all problems
    will take at this rate. Without a terminal, a plain line every `seconds` instead.

    Args:
        console: where it is shown.
        name: of the data set.
        spent: what the requests for a problem took.
        spending: of the run, and of its earlier sessions.
        pilot: ids of problems; when these have ended, a line says what all problems will take.
        seconds: between two plain lines.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        spent: Callable[[Record], Spent],
        spending: Spending,
        pilot: Sequence[str] = (),
        seconds: float = 30.0,
    ) -> None:
        self.console, self.spent, self.spending = console, spent, spending
        self.name, self.seconds = plain(name, 200), seconds
        self._pilot = set(pilot)
        self._amounts: list[Spent] = []  # of the records so far
        self._tried: list[Spent] = []  # of those of the pilot
        self._accepted = 0
        self._earlier: int | None = None  # records that an earlier session left
        self._start = self._last_line = time.monotonic()
        columns = {
            "": TextColumn("{task.description}", markup=False),
            " ": BarColumn(bar_width=8),
            "done": MofNCompleteColumn(),
            "accepted": TextColumn("{task.fields[accepted]}"),
            "rate": TextColumn("{task.fields[rate]}"),
            "spent": TextColumn("{task.fields[spent]}"),
            "in all": TextColumn("{task.fields[projected]}"),
            "left": TimeRemainingColumn(),
        }
        self.bars = Bars(*columns.values(), console=console, disable=not console.is_terminal)
        self.bars.headings = tuple(columns)

    def __enter__(self) -> CascadeProgress:
        fields = dict.fromkeys(("accepted", "rate", "spent", "projected"), "")
        self._row = self.bars.add_task(self.name, total=None, start=False, **fields)  # type: ignore[arg-type]
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def __call__(self, records: Sequence[Record], total: int) -> None:
        """Shows the records so far of `total` problems."""
        if self._earlier is None:
            self._earlier = len(records) - 1
        for record in records[len(self._amounts) :]:
            self._amounts.append(self.spent(record))
            self._accepted += status(record) == "accepted"
            if record.id in self._pilot:
                self._tried.append(self._amounts[-1])
                if len(self._tried) == len(self._pilot):
                    self._print_estimate(total)
        self._show(len(records), total)

    def _print_estimate(self, total: int) -> None:
        parts = [
            shown_interval(name, *values)
            for name, values in projection(self._tried, total).items()
            if values[0]
        ]
        n = len(self._tried)
        low, high = wilson(self._accepted, len(self._amounts))
        share = f"{100 * low:.0f} to {100 * high:.0f} % accepted"
        print_line(
            self.console,
            f"estimate from {n} problems (95 %): {total} problems take {', '.join(parts)}; {share}",
        )

    def _show(self, done: int, total: int) -> None:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = f"{(done - (self._earlier or 0)) / seconds:.1f}/s"
        accepted = f"{100 * self._accepted / done:.0f} %"
        now, later = self.spending.total, projection(self._amounts, total)
        unit = "usd" if now.usd else "tokens"
        spent, projected = getattr(now, unit), later[unit][0]
        shown, all_shown = (shown_amount(unit, value) for value in (spent, projected))
        name = "USD" if unit == "usd" else "tokens"
        if self.bars.tasks[self._row].start_time is None:
            self.bars.start_task(self._row)
        self.bars.update(
            self._row,
            completed=done,
            total=total,
            accepted=accepted,
            rate=rate,
            spent=f"{shown} {name}",
            projected=all_shown,
        )
        if not self.console.is_terminal and time.monotonic() - self._last_line >= self.seconds:
            self._last_line = time.monotonic()
            print_line(
                self.console,
                f"{self.name}: {done} of {total}, {rate}, {accepted} accepted, {shown} of about "
                f"{all_shown} {name}",
            )
