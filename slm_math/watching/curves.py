"""The metrics of a run by step, from the logs that its sessions append to."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slm_math.records.run_folder import METRICS, logs_of
from slm_math.watching.following import FollowedFile, FollowedFiles, Line


@dataclass
class Session:
    """The log of one session: its columns, its rows, and the beginning of a row whose rest is on
    the next line.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    begun: str = ""

    @property
    def trains(self) -> bool:
        """Whether it logs training steps; that of `validate` logs others."""
        return any(name.startswith("train/") for name in self.columns)


@dataclass(frozen=True)
class Row:
    """What was logged at once: the epoch, the batches that were done, and metrics; None stands for
    one that was not finite.
    """

    epoch: int
    step: int
    metrics: dict[str, float | None]
    trains: bool = False  # whether it is of a training step


class Curves(FollowedFiles):
    """Follows the logs of metrics in a run's folder, one for each session."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, *METRICS)
        self.forget()

    def forget(self) -> None:
        self._sessions: dict[Path, Session] = {}

    def take(self, file: FollowedFile, lines: Sequence[Line]) -> None:
        session = self._sessions.setdefault(file.path, Session())
        for _, line in lines:
            text = session.begun + line.decode("utf-8", "replace")
            if text.count('"') % 2:  # a name of a column has the end of a line in it
                session.begun = text
                continue
            session.begun = ""
            cells = next(csv.reader([text]), [])
            if session.columns:
                session.rows += _row(session.columns, cells)
            else:
                session.columns = cells

    @property
    def version(self) -> tuple[int, int]:
        """Changes when rows that were there are replaced."""
        return self.generation, sum(bool(each.rows) for each in self._sessions.values())

    def rows(self) -> list[Row]:
        """The rows of all sessions in order; a later session replaces the steps that it repeats."""
        rows: list[Row] = []
        for path in logs_of(self.root):
            session = self._sessions.get(path)
            if session is None or not session.trains or not session.rows:
                continue
            begin = min(row.step for row in session.rows)
            # a session may begin with the validation after the last step of the one before
            again = {row.trains for row in session.rows if row.step == begin}
            last = [row for row in rows if row.step == begin and row.trains not in again]
            rows = [row for row in rows if row.step < begin] + last + session.rows
        return rows

    def first_steps(self) -> dict[int, int]:
        """The first training step of every epoch, as a number of batches that were done."""
        first: dict[int, int] = {}
        for row in self.rows():
            if row.trains:
                first[row.epoch] = min(first.get(row.epoch, row.step), row.step)
        return first


def _row(columns: Sequence[str], cells: Sequence[str]) -> Iterator[Row]:
    found = {name: _number(cell) for name, cell in zip(columns, cells) if cell}
    epoch, step = found.pop("epoch", None), found.pop("step", None)
    if step is not None:
        trains = any(name.startswith("train/") for name in found)
        yield Row(int(epoch or 0), int(step) + 1, found, trains)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
