"""Every rollout of a GRPO training run as a line of JSON, readable while training runs."""

from __future__ import annotations

import json
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import lightning as L

from slm_math.callbacks.run_root import begin_run
from slm_math.modules.grpo import GRPOModule
from slm_math.records.encoding import json_line, to_json
from slm_math.records.record import Record


class RolloutLog(L.Callback):
    """Appends the rollouts of every GRPO batch to `<root>/rollouts.jsonl`; other ranks to
    `rollouts.rank-<r>.jsonl`.

    A line holds a rollout: epoch, batch and step, prompt and completion, the record with its
    transcript, and reward parts, rewards and advantages by role; null stands for no score. Training
    that resumes from a checkpoint first drops the lines of the batches that it repeats.

    Args:
        every_n_batches: logs every n-th batch of an epoch.
    """

    def __init__(self, every_n_batches: int = 1) -> None:
        if every_n_batches < 1:
            raise ValueError(f"RolloutLog needs every_n_batches >= 1, got {every_n_batches}")
        self.every_n_batches = every_n_batches

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begin_run(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._ready = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prepares an old log. This must wait for the first batch: before it, the counters of a
        resumed trainer contradict each other.
        """
        if self._ready or not isinstance(pl_module, GRPOModule):
            return
        self._ready = True
        Path(trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
        paths = [log_path(trainer, trainer.global_rank)]
        if trainer.is_global_zero:  # also the logs of ranks that no longer exist
            paths += takewhile(
                Path.is_file, (log_path(trainer, rank) for rank in count(trainer.world_size))
            )
        for path in filter(Path.is_file, paths):
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
            place | texts(record, pl_module.train_roles[0]) | to_json(record)
            for record in pl_module.last_records
        )
        with log_path(trainer, trainer.global_rank).open("ab") as file:
            file.write(b"".join(map(json_line, rows)))  # in one call: readers see complete lines


def log_path(trainer: L.Trainer, rank: int) -> Path:
    return Path(trainer.default_root_dir) / (
        f"rollouts.rank-{rank}.jsonl" if rank else "rollouts.jsonl"
    )


def texts(record: Record, role: str) -> dict[str, str | None]:
    """The first request to a role (its last user message) and the reply; None where the role has no
    turn.
    """
    turn = next((turn for turn in record.turns if turn.role == role), None)
    if turn is None:
        return {"prompt": None, "completion": None}
    prompts = [message.shown for message in turn.prompt if message.role == "user"]
    return {"prompt": prompts[-1] if prompts else None, "completion": turn.reply}


def drop_from(path: Path, epoch: int, batch: int) -> None:
    """Rewrites a log without this batch and later ones, and without an incomplete last line."""
    new = path.with_name(path.name + ".new")
    with path.open("rb") as old, new.open("wb") as file:
        file.writelines(
            line for line in old if line.endswith(b"\n") and not is_repeated(line, epoch, batch)
        )
    new.replace(path)


def is_repeated(line: bytes, epoch: int, batch: int) -> bool:
    """Whether a line is of this batch or a later one."""
    try:
        row = json.loads(line)
        return (row["epoch"], row["batch"]) >= (epoch, batch)
    except (ValueError, KeyError, TypeError):
        return False  # not a line of this callback: keep it
