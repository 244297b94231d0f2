"""Why a training run ended, if not with its last epoch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer


class StopReason(L.Callback):
    """Prints one line when a limit or a callback ends training, or when there is nothing to
    train.
    """

    def __init__(self) -> None:
        self._place: str | None = None  # of the last batch since `fit` began

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._place = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *step: Any
    ) -> None:
        _, _, batch_idx = step  # outputs, batch and its number
        batches = f"{batch_idx + 1} of {trainer.num_training_batches} batches"
        self._place = f"in epoch {trainer.current_epoch} after {batches}"

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        reason = stopped_by(trainer)
        if 0 <= trainer.max_steps <= trainer.global_step:
            reason = f"max_steps {trainer.max_steps} is reached"
        if self._place is None:
            reason = reason or empty(trainer)
            hint = "; raise it to go on" if reason.endswith("is reached") else ""
            print(f"nothing was trained: {reason}{hint}", flush=True)
        elif reason is not None:
            print(f"training stopped {self._place}: {reason}", flush=True)


def stopped_by(trainer: L.Trainer) -> str | None:
    """Why a callback of Lightning stopped the trainer, None if none did."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks if trainer.should_stop else ():
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            reason = callback.stopping_reason_message.removesuffix(" Signaling Trainer to stop.")
            return f"{reason.removesuffix('.')} ({type(callback).__name__})"
        left = callback.time_remaining() if isinstance(callback, Timer) else None
        if isinstance(callback, Timer) and left is not None and left <= 0:
            elapsed = timedelta(seconds=round(callback.time_elapsed()))
            return f"the time limit (max_time) is reached after {elapsed}"
    return None


def empty(trainer: L.Trainer) -> str:
    """Why there was not a single batch to train on."""
    epochs = trainer.max_epochs
    if epochs is not None and 0 <= epochs <= trainer.current_epoch:
        return f"max_epochs {epochs} is reached"
    return "there are no training batches (data, limit_train_batches)"
