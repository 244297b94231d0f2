"""A table of a few rollouts with their rewards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
from rich.table import Table
from rich.text import Text

from slm_math.callbacks.console import console_of
from slm_math.logged_tables import log_table
from slm_math.modules.grpo import GRPOModule
from slm_math.ranges import check_whole
from slm_math.records.record import Record
from slm_math.visible import visible

COLUMNS = ("step", "problem", "gold", "role", "reply", "reward", "advantage")


class RolloutTable(L.Callback):
    """Prints a few rollouts of a GRPO step, and logs them as the table `rollouts` to the run's
    TensorBoard, W&B and trackio loggers.

    Args:
        every_n_batches: after every n-th batch of an epoch.
        rows: number of rollouts, from as few problems as possible, so that they can be compared.
        width: characters of a prompt or reply that are shown.
    """

    def __init__(self, every_n_batches: int = 50, rows: int = 4, width: int = 400) -> None:
        for name, count in (("every_n_batches", every_n_batches), ("rows", rows), ("width", width)):
            check_whole(f"RolloutTable.{name}", count)
        self.every_n_batches = every_n_batches
        self.rows = rows
        self.width = width

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if (
            not isinstance(pl_module, GRPOModule)
            or not trainer.is_global_zero
            or batch_idx % self.every_n_batches
        ):
            return
        records = pl_module.last_records[: self.rows]
        title = f"rollouts of epoch {trainer.current_epoch}, batch {batch_idx}"
        console_of(trainer).print(self._printed(records, title))
        step = trainer.fit_loop.epoch_loop.total_batch_idx  # that of the metrics of this batch
        rows = [row for record in records for row in logged_rows(record, step, self.width)]
        log_table(trainer.loggers, "rollouts", COLUMNS, rows=rows, step=step)

    def _printed(self, records: Sequence[Record], title: str) -> Table:
        table = Table(title=title, title_justify="left")
        for name in ("problem", "gold", "last reply", "reward"):
            table.add_column(name, overflow="fold")
        for record in records:
            rewards = "\n".join(
                f"{role} {record.rewards[role]:.2f}: "
                + ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
                for role, parts in record.parts.items()
            )
            texts = (problem_of(record), record.gold, reply_of(record), rewards)
            table.add_row(*(Text(plain(text, self.width)) for text in texts))
        return table


def logged_rows(record: Record, step: int, width: int) -> Iterator[tuple[str | float | None, ...]]:
    """The rows of a rollout, one for each role that got a reward, or was trained without."""
    for role in {**record.rewards, **record.advantages} or ("",):
        texts = (problem_of(record), record.gold, role, reply_of(record, role))
        numbers = (record.rewards.get(role), record.advantages.get(role))
        yield (
            step,
            *(plain(text, width) for text in texts),
            *(None if number is None or math.isnan(number) else number for number in numbers),
        )


def problem_of(record: Record) -> str:
    draft = record.draft
    return record.problem + (f"\ndraft: {draft.text}\nanswer: {draft.answer}" if draft else "")


def reply_of(record: Record, role: str = "") -> str:
    """The last reply, or that of a role; why there is none if the workflow broke."""
    replies = [turn.reply for turn in record.turns if role in ("", turn.role)]
    return replies[-1] if replies else record.error or ""


def plain(text: str, width: int) -> str:
    """The beginning of a text, in which control characters of a model's reply have no effect."""
    clean = visible(text)
    return clean if len(clean) <= width else clean[: width - 1] + "…"
