"""Every rollout of a GRPO training as a line of JSON, readable while training runs."""

from __future__ import annotations

import json
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import lightning as L

from slm_math.modules.grpo import GRPOModule
from slm_math.records.record import Rollout, json_line


class RolloutLog(L.Callback):
    """Appends the rollouts of every GRPO batch to `<root>/rollouts.jsonl`; other ranks to
    `rollouts.rank-<r>.jsonl`.

    A line is a rollout: where it happened, its prompt and completion, its transcript, reward parts,
    rewards and advantages by role; null where there is no score. Training that goes on from a
    checkpoint drops the lines of the batches it repeats; one that starts anew moves an old log
    aside (`rollouts.1.jsonl`, `.2`, ...).

    Args:
        every_n_batches: logs every n-th batch of an epoch.
    """

    def __init__(self, every_n_batches: int = 1) -> None:
        if every_n_batches < 1:
            raise ValueError(f"RolloutLog needs every_n_batches >= 1, got {every_n_batches}")
        self.every_n_batches = every_n_batches

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begun = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Makes an old log ready. Not earlier: before its first batch a resumed trainer's counters
        contradict.
        """
        if self._begun or not isinstance(pl_module, GRPOModule):
            return
        self._begun = True
        Path(trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
        paths = [log_path(trainer, trainer.global_rank)]
        if trainer.is_global_zero:  # also the logs of ranks that are no more
            paths += takewhile(
                Path.is_file, (log_path(trainer, rank) for rank in count(trainer.world_size))
            )
        for path in filter(Path.is_file, paths):
            if (trainer.current_epoch, batch_idx) == (0, 0):
                asides = (path.with_suffix(f".{number}.jsonl") for number in count(1))
                path.rename(next(aside for aside in asides if not aside.exists()))
            else:
                drop_from(path, trainer.current_epoch, batch_idx)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not isinstance(pl_module, GRPOModule) or batch_idx % self.every_n_batches:
            return
        place = {"epoch": trainer.current_epoch, "batch": batch_idx, "step": trainer.global_step}
        rows = (
            place | texts(rollout, pl_module.train_roles[0]) | rollout.data()
            for rollout in pl_module.last
        )
        with log_path(trainer, trainer.global_rank).open("ab") as file:
            file.write(b"".join(json_line(row) for row in rows))  # at once: readers see whole lines


def log_path(trainer: L.Trainer, rank: int) -> Path:
    return Path(trainer.default_root_dir) / (
        f"rollouts.rank-{rank}.jsonl" if rank else "rollouts.jsonl"
    )


def texts(rollout: Rollout, role: str) -> dict[str, str | None]:
    """What a role was asked first (the last user message) and what it replied; None where it never
    spoke.
    """
    turns = (
        event
        for event in rollout.record["events"]
        if event["kind"] == "turn" and event["role"] == role
    )
    turn = next(turns, {"prompt": [], "reply": None})
    asked = [message["content"] for message in turn["prompt"] if message["role"] == "user"]
    return {"prompt": asked[-1] if asked else None, "completion": turn["reply"]}


def drop_from(path: Path, epoch: int, batch: int) -> None:
    """Rewrites a log without the batches from this one on, and without a last line that was cut
    off.
    """
    new = path.with_name(path.name + ".new")
    with path.open("rb") as old, new.open("wb") as file:
        file.writelines(
            line for line in old if line.endswith(b"\n") and not comes_again(line, epoch, batch)
        )
    new.replace(path)


def comes_again(line: bytes, epoch: int, batch: int) -> bool:
    try:
        row = json.loads(line)
        return (row["epoch"], row["batch"]) >= (epoch, batch)
    except (ValueError, KeyError, TypeError):
        return False  # not written here: not ours to lose
