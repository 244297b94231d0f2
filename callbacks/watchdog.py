"""A watchdog that says what is stuck, and where, when nothing moves."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch.distributed as dist

import slm_math
from slm_math.callbacks.background import Background

OURS = (Path(slm_math.__file__).parent, Path(__file__).parent)
FRAMES = 4  # of this project's, innermost first
SHOWN = 8  # other ranks in a report


class Watchdog(Background):
    """Reports on stderr when there has been no progress for a while: for how long, in which phase
    and at which lines of code.

    A token, a finished rollout, a micro-batch or a batch counts as progress. A stall that lasts is
    reported again after twice the time, and its end is reported too. With several ranks, each
    reports its own stall, since a rank that waits for another one stalls as well, and says where
    the others stand: the rank that the others wait for stands elsewhere. Python code that never
    lets other threads run (one huge integer power, say) silences the watchdog of its rank.

    Args:
        minutes: without progress before the first report.
    """

    def __init__(self, minutes: float = 5.0) -> None:
        if minutes <= 0:
            raise ValueError(f"Watchdog needs minutes > 0, got {minutes}")
        self.minutes = minutes
        self._batches = 0

    def _batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._batches += 1

    on_train_batch_end = on_validation_batch_end = on_test_batch_end = on_predict_batch_end = (
        _batch_end
    )

    def look(self, trainer: L.Trainer, module: Any, watched: int, stop: threading.Event) -> None:
        patience = 60 * self.minutes
        who = f"rank {trainer.global_rank}: " if trainer.world_size > 1 else ""
        ranks = Ranks(trainer.global_rank, trainer.world_size)
        seen, since, limit = None, time.monotonic(), patience
        while not stop.wait(min(1.0, patience / 10)):
            if trainer.state.status != "running":
                return  # it ended without telling its callbacks
            now, moves = time.monotonic(), (getattr(module, "heartbeats", 0), self._batches)
            if moves != seen:
                if limit > patience:
                    say(f"{who}things move again after {minutes(now - since)}")
                seen, since, limit = moves, now, patience
                ranks.tell("")
                continue
            if now - since < patience / 4:
                continue
            where, lines = place(trainer, module), stack(sys._current_frames().get(watched))
            ranks.tell(f"{where}, at {lines[0] if lines else 'no line'}")
            if now - since >= limit:
                stands = "".join(f"\n  {line}" for line in lines)
                say(
                    f"{who}no progress for {minutes(now - since)}: {where}; it stands at{stands}"
                    f"{ranks.others()}"
                )
                limit *= 2


class Ranks:
    """Where the ranks of a run stand, through the store by which they found each other; a rank
    that computes nothing and answers nobody is still in it.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._told = ""

    def tell(self, text: str) -> None:
        """Says where this rank stands, "" when it moves."""
        store = self._store()
        if store is not None and text != self._told:
            with suppress(Exception):  # the process that holds it may have ended
                store.set(f"slm_math/stands/{self.rank}", text)
                self._told = text

    def others(self) -> str:
        """A line for each other rank; at most eight."""
        store, lines = self._store(), []
        for rank in range(self.size) if store is not None else ():
            if rank == self.rank:
                continue
            if len(lines) == SHOWN:
                lines.append(f"\n  ... and {self.size - 1 - SHOWN} more ranks")
                break
            with suppress(Exception):
                key = f"slm_math/stands/{rank}"
                text = store.get(key).decode() if store.check([key]) else ""
                lines.append(f"\n  rank {rank} {f'stands in {text}' if text else 'moves'}")
        return "".join(lines)

    def _store(self) -> Any:
        if self.size == 1 or not dist.is_available() or not dist.is_initialized():
            return None
        return dist.distributed_c10d._get_default_store()


def say(text: str) -> None:
    """One write, so that ranks that share a terminal do not mix their lines."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def place(trainer: L.Trainer, module: Any) -> str:
    phase, done, total = getattr(module, "phase", ("no phase known", 0, 0))
    counted = f", {done} of {total} done" if total else ""
    stage = trainer.state.fn.value if trainer.state.fn else "no stage"
    at = f"epoch {trainer.current_epoch}, step {trainer.global_step}" if stage == "fit" else stage
    return f"{phase}{counted} ({at})"


def stack(frame: FrameType | None) -> list[str]:
    """Where a thread stands: its innermost frame, then those of this project. No values, they may
    be secrets.
    """
    lines: list[str] = []
    while frame is not None and len(lines) <= FRAMES:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        root = next((folder.parent for folder in OURS if path.is_relative_to(folder)), None)
        # comprehensions stand where their function is
        if not lines or (root is not None and not name.startswith("<")):
            lines.append(
                f"{path if root is None else path.relative_to(root)}:{frame.f_lineno} {name}"
            )
        frame = frame.f_back
    return lines
