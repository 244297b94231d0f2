"""Checkpoints that make an interrupt cheap: every epoch, every few minutes, and at Ctrl-C after the
step under way.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.run_root import begin_run


class Checkpoints(ModelCheckpoint):
    """Keeps `<root>/checkpoints/last.ckpt`, always of a moment between two steps; `--ckpt_path
    last` resumes from it.

    Also written after the last step of an epoch, and at its end: after an interrupt in the
    evaluation in between, no step is repeated, and the evaluation continues with its records. The
    first Ctrl-C lets a step finish and saves; a second one, or
    one outside of a step, stops at once.

    Args:
        dirpath: the folder; `checkpoints` under the trainer's root when left out on the command
            line.
        minutes: a checkpoint is also written every so many minutes.
    """

    def __init__(self, dirpath: str | Path | None = None, minutes: float = 10.0) -> None:
        super().__init__(
            dirpath=dirpath, save_last=True, save_top_k=1, save_on_train_epoch_end=True
        )
        self.minutes = minutes
        self._saved = time.monotonic()
        self._stop = False
        self._in_step = False
        self._before: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begin_run(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._saved = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, number: int, frame: Any) -> None:
        if self._stop or not self._in_step:
            raise KeyboardInterrupt
        self._stop = True
        print("\nstopping after this step (Ctrl-C again stops at once)", flush=True)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._in_step = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *step: Any
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, *step)
        _, _, batch_idx = step  # outputs, batch and its number
        self._in_step = False
        last = batch_idx + 1 == trainer.num_training_batches
        late = time.monotonic() - self._saved > 60 * self.minutes
        # all ranks save, or none
        stop, save = anywhere(trainer, self._stop), anywhere(trainer, late)
        if stop or save or last:
            self._saved = time.monotonic()
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        if stop:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_global_step_saved = -1  # that step was saved before the evaluation
        super().on_train_epoch_end(trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        super().on_exception(trainer, pl_module, exception)
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            saved = self.last_model_path and Path(self.last_model_path).exists()
            outcome = (
                f"{self.last_model_path} is saved, --ckpt_path last resumes from it"
                if saved
                else "no checkpoint was written yet"
            )
            print(f"interrupted: {outcome}; finished evaluation records are saved", flush=True)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


def anywhere(trainer: L.Trainer, flag: bool) -> bool:
    """Whether a flag is set on any rank."""
    return bool(trainer.strategy.reduce_boolean_decision(flag, all=False))
