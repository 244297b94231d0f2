"""What a run is doing now, in a file that `slm-math watch` reads."""

from __future__ import annotations

import math
import os
import statistics
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L

from slm_math.callbacks.background import Background
from slm_math.callbacks.run_root import begin_run
from slm_math.records.files import write_json
from slm_math.records.run_folder import STATUS

EVERY = 1.0  # seconds
RECENT = 20  # batches whose times give the rate


class Status(Background):
    """Writes `<root>/status.json` once a second while a run trains: its phase, how far it is, the
    time per batch, and when something last moved (a token, a rollout, a micro-batch).

    The file also says how the run ended. A run that is killed leaves `state: running` and a
    `written` (seconds since 1970) that no longer moves.
    """

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=RECENT + 1)  # of batches, on a monotonic clock
        self._batch = 0  # that many are done in this epoch
        self._begun = threading.Event()
        self._writing = threading.Lock()
        self._seen: Any = None
        self._moved = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begin_run(trainer, pl_module)
        self._ends.clear()
        self._batch = 0
        if trainer.is_global_zero:
            self._begun.set()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batch = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *step: Any
    ) -> None:
        _, _, batch_idx = step  # outputs, batch and its number
        self._batch = batch_idx + 1
        self._ends.append(time.monotonic())

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish(trainer, pl_module, "ended")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        stopped = isinstance(exception, KeyboardInterrupt)
        kind = {} if stopped else {"error": type(exception).__name__}
        self._finish(trainer, pl_module, "stopped" if stopped else "failed", **kind)
        super().on_exception(trainer, pl_module, exception)

    def look(self, trainer: L.Trainer, module: Any, watched: int, stop: threading.Event) -> None:
        while not stop.wait(EVERY):
            if self._begun.is_set():
                self._write(trainer, module, {"state": "running"})

    def _finish(self, trainer: L.Trainer, module: Any, state: str, **more: Any) -> None:
        self._write(trainer, module, {"state": state, **more}, last=True)

    def _write(
        self, trainer: L.Trainer, module: Any, how: dict[str, Any], last: bool = False
    ) -> None:
        """Writes the file; a full disk does not end a run because of it."""
        with self._writing, suppress(OSError):
            if not self._begun.is_set():
                return
            if last:  # nothing is written after how the run ended
                self._begun.clear()
            write_json(Path(trainer.default_root_dir) / STATUS, how | self._now(trainer, module))

    def _now(self, trainer: L.Trainer, module: Any) -> dict[str, Any]:
        now, moves = time.time(), (getattr(module, "heartbeats", 0), self._batch)
        if moves != self._seen:
            self._seen, self._moved = moves, now
        phase, done, total = getattr(module, "phase", ("", 0, 0))
        gaps = [later - earlier for earlier, later in pairwise(tuple(self._ends))]
        return {
            "process": os.getpid(),
            "written": round(now, 3),
            "moved": round(self._moved, 3),
            "phase": phase,
            "done": done,
            "total": total,
            "epoch": trainer.current_epoch,
            "epochs": _limit(trainer.max_epochs),
            "batch": self._batch,
            "batches": _limit(trainer.num_training_batches),
            "step": trainer.global_step,
            "steps": _limit(trainer.max_steps),
            "seconds_per_batch": statistics.median(gaps) if gaps else None,
        }


def _limit(value: Any) -> int | None:
    """A limit of a trainer, None for one that is not set."""
    return int(value) if value is not None and 0 <= value < math.inf else None
