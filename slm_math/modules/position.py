"""How far a training run has come: one value in its checkpoints, to which Lightning's loops are set
when the run goes on.

Lightning's own counters depend on the hook that saved them. They take an epoch that a limit stopped
in the middle for one that is over, and an epoch whose last batch is trained, but whose end is still
to come, for the next one; a run that goes on from such counters repeats or loses batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import lightning as L

from slm_math.data.batches import in_step
from slm_math.modules.random_state import random_state, restore_random_state
from slm_math.policy.ranks import gather_over_ranks


@dataclass(frozen=True)
class Position:
    """A moment between two training batches.

    Args:
        epoch: the epochs that are over, each with what follows its last batch: a validation, and
            what callbacks do at the end of an epoch.
        batch: the batches of the next epoch that are trained.
        batches: all batches that are trained.
        last: whether the last one was the last of its epoch, whose end is still to come.
        validated: whether a validation that is due after the last batch is done.
        torn: whether an update of a further batch, which is not done, has changed the weights.
    """

    epoch: int
    batch: int
    batches: int
    last: bool = False
    validated: bool = False
    torn: bool = False

    @classmethod
    def of(cls, loops: Mapping[str, Any], validated: bool | None = None) -> Position:
        """The position that counters of Lightning's fit loop stand for, whatever hook saved them.

        `validated`: where a checkpoint does not tell, a batch that is counted as completed was
        validated.
        """
        epochs = loops["epoch_progress"]["current"]
        batches = loops["epoch_loop.batch_progress"]
        batch, total = batches["current"], batches["total"]["processed"]
        last = batches["is_last_batch"] and batch["ready"] == batch["processed"]
        epoch, trained = epochs["processed"], batch["processed"]
        if epochs["started"] > epoch:  # it is under way
            if trained:
                done = batch["completed"] == trained if validated is None else validated
                return cls(epoch, trained, total, last=last, validated=done)
        elif epochs["ready"] == epoch and trained and not last:  # a limit stopped it in the middle
            return cls(epoch - 1, trained, total, validated=True)
        return cls(epoch, 0, total)


@dataclass(frozen=True)
class StepStart:
    """The moment before a training step, for a checkpoint that an exception writes inside of it.

    Args:
        number: of the batch, over all epochs.
        updates: the updates that were begun before it.
        rng: the state of the random generators.
    """

    number: int
    updates: int
    rng: dict[str, Any]

    @classmethod
    def of(cls, trainer: L.Trainer) -> StepStart:
        return cls(trainer.fit_loop.total_batch_idx, _updates(trainer), random_state())

    def is_under_way(self, trainer: L.Trainer) -> bool:
        """Whether the trainer is inside this step."""
        return in_step(trainer) and self.number == trainer.fit_loop.total_batch_idx


def _updates(trainer: L.Trainer) -> int:
    return trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.ready


def position_of(
    trainer: L.Trainer, loops: Mapping[str, Any], step: StepStart | None = None
) -> Position:
    """The position of a running trainer: `loops` is the state of its fit loop, `step` the step
    under way.
    """
    if trainer.validating:
        progress = loops["epoch_loop.val_loop.batch_progress"]
        current = progress["current"]
        validated = progress["is_last_batch"] and current["ready"] == current["completed"]
    else:
        current = loops["epoch_loop.batch_progress"]["current"]
        validated = current["processed"] == current["completed"]
    torn = step is not None and step.updates != _updates(trainer)
    return replace(Position.of(loops, validated), torn=torn)


def set_counters(loops: dict[str, Any], position: Position) -> None:
    """Replaces the counters in the state of a fit loop by those of a position, in the one form that
    Lightning goes on from rightly.
    """
    epoch, batch = position.epoch, position.batch
    begun = epoch + bool(batch)
    epochs = {"ready": begun, "started": begun, "processed": epoch, "completed": epoch}
    loops["epoch_progress"] = {"total": epochs, "current": epochs}
    loops["epoch_loop.batch_progress"] = {
        "total": _all(position.batches),
        "current": _all(batch),
        "is_last_batch": position.last,
    }
    # a validation that was begun and has no result is what Lightning makes up for, if it is due
    pending = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops["epoch_loop.val_loop.batch_progress"] = {
        "total": pending if batch and not position.validated else _all(0),
        "current": _all(0),
        "is_last_batch": False,
    }
    loops["epoch_loop.state_dict"] = {"_batches_that_stepped": position.batches}
    loops["state_dict"] = {}  # positions of loaders: the data module has its own
    for count in loops["epoch_loop.manual_optimization.optim_step_progress"].values():
        count["ready"] = count["completed"]  # an update under way is not one


def _all(count: int) -> dict[str, int]:
    return dict.fromkeys(("ready", "started", "processed", "completed"), count)


def go_on(trainer: L.Trainer, position: Position) -> None:
    """Completes what `set_counters` began, once the trainer knows its batches: before the first
    epoch of a session.
    """
    loop = trainer.fit_loop
    fetcher, epoch_loop = loop._data_fetcher, loop.epoch_loop
    assert fetcher is not None
    if not position.batch:
        # with max_steps, Lightning takes the start of an epoch for its middle
        epoch_loop.restarting = False
        return
    over = position.last or position.batch >= trainer.num_training_batches
    epoch_loop.batch_progress.is_last_batch = over
    fetcher.done = over  # no further batch is drawn, only what ends the epoch is left
    # Lightning counts a batch for its logs once the validation after it is over
    epoch_loop._batches_that_stepped -= epoch_loop._should_check_val_fx(fetcher)


class Resumption:
    """Saves where a training stands, and goes on from there."""

    def __init__(self) -> None:
        self._position: Position | None = None  # that a session began from, until its first batch
        self._rng: dict[str, Any] | None = None  # random state, until training begins
        self._step: StepStart | None = None  # the last step

    def save(self, trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
        """Adds the position and the state of the random generators to a checkpoint."""
        begun = self._step is not None and self._step.is_under_way(trainer)
        step = self._step if begun else None
        checkpoint["rng"] = gather_over_ranks(step.rng if step else random_state())
        position = position_of(trainer, checkpoint["loops"]["fit_loop"], step)
        checkpoint["position"] = asdict(position)

    def load(self, checkpoint: dict[str, Any], rank: int) -> None:
        """Reads what `save` added, and sets the counters of Lightning's loops to it.

        A limit of time (`max_time`) is that of a session: the time of earlier ones does not count.
        Raises ValueError for a checkpoint of the middle of a training step.
        """
        loops, saved = checkpoint["loops"]["fit_loop"], checkpoint.get("position")
        self._position = Position.of(loops) if saved is None else Position(**saved)
        if self._position.torn:
            raise ValueError(
                "the checkpoint was written by an exception inside a training step that had "
                "changed the weights: resume from the one before it"
            )
        set_counters(loops, self._position)
        checkpoint.get("callbacks", {}).pop("Timer", None)
        states = checkpoint.get("rng") or [None]
        self._rng = states[rank] if rank < len(states) else None

    def begin(self, trainer: L.Trainer) -> None:
        """To be called when training begins, not earlier: the trainer's own start-up draws random
        numbers.
        """
        if self._position is not None:
            go_on(trainer, self._position)
        if self._rng is not None:
            restore_random_state(self._rng)
            self._rng = None

    def step(self, trainer: L.Trainer) -> None:
        """To be called before every training step."""
        self._position = None
        self._step = StepStart.of(trainer)
