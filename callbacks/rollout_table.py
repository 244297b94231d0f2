"""A table of a few rollouts with their rewards."""

from __future__ import annotations

from typing import Any

import lightning as L
from rich.table import Table
from rich.text import Text

from slm_math.callbacks.console import console_of
from slm_math.modules.grpo import GRPOModule
from slm_math.ranges import check_whole
from slm_math.visible import visible


class RolloutTable(L.Callback):
    """Prints a few rollouts of a GRPO step.

    Args:
        every_n_batches: prints after every n-th batch of an epoch.
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
        table = Table(
            title=f"rollouts of epoch {trainer.current_epoch}, batch {batch_idx}",
            title_justify="left",
        )
        for name in ("problem", "gold", "last reply", "reward"):
            table.add_column(name, overflow="fold")
        for record in pl_module.last_records[: self.rows]:
            reply = record.turns[-1].reply if record.turns else record.error or ""
            rewards = "\n".join(
                f"{role} {record.rewards[role]:.2f}: "
                + ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
                for role, parts in record.parts.items()
            )
            problem = record.problem
            if record.draft is not None:
                problem += f"\ndraft: {record.draft.text}\nanswer: {record.draft.answer}"
            texts = (problem, record.gold, reply, rewards)
            table.add_row(*(plain(text, self.width) for text in texts))
        console_of(trainer).print(table)


def plain(text: str, width: int) -> Text:
    """Text that a console shows literally: markup and control characters of a model's reply have no
    effect.
    """
    clean = visible(text)
    return Text(clean if len(clean) <= width else clean[: width - 1] + "…")
