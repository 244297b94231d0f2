"""How a training run ended: why, if not with its last epoch, and where its best weights are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer


class StopReason(L.Callback):
    """Prints one line when a limit or a callback ends training, or when there is nothing to
    train; and one that names the best checkpoint, if a callback of the run looks for it.

    A resumed run has the `patience` that is configured now, which Lightning would replace by that
    of the checkpoint.
    """

    def __init__(self) -> None:
        self._place: str | None = None  # of the last batch since `fit` began

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states = checkpoint.get("callbacks") or {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            state = states.get(callback.state_key)
            if not isinstance(callback, EarlyStopping) or not state:
                continue
            old, state["patience"] = state["patience"], callback.patience
            if old != callback.patience and trainer.is_global_zero:
                print(
                    f"EarlyStopping.patience is {callback.patience} now, and was {old}: "
                    f"{state['wait_count']} evaluations have passed without a better one",
                    flush=True,
                )

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
        for line in best_of(trainer):
            print(line, flush=True)


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


def best_of(trainer: L.Trainer) -> Iterator[str]:
    """Where the best weights are, by each metric that a callback monitors."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            path = shortest(callback.best_model_path)
            yield (
                f"best {callback.monitor}: {path} (slm-math export {path} --out DIR makes a model "
                "of it)"
            )


def shortest(path: str) -> str:
    """A path as it is named from the working directory."""
    return (
        str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
    )


def empty(trainer: L.Trainer) -> str:
    """Why there was not a single batch to train on."""
    epochs = trainer.max_epochs
    if epochs is not None and 0 <= epochs <= trainer.current_epoch:
        return f"max_epochs {epochs} is reached"
    return "there are no training batches (data, limit_train_batches)"
