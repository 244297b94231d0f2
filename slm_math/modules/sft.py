"""Supervised fine-tuning: next-token loss on what the assistant wrote."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from slm_math.data.batches import ItemBatch
from slm_math.data.rows import Row
from slm_math.engines.settings import Inference
from slm_math.modules.base import PolicyModule
from slm_math.modules.optim import Optim
from slm_math.policy.batches import collated, micro_batches
from slm_math.policy.config import Policy
from slm_math.policy.ranks import sum_over_ranks
from slm_math.types import Sampling


class SFTModule(PolicyModule):
    """Full, LoRA and QLoRA fine-tuning, by what `policy` says. The data's batch is one optimizer
    step.

    Args:
        policy: the model.
        optim: optimizer and schedule.
        tokens_per_batch: positions of one forward and backward pass; a step accumulates as many as
            it needs.
        train_roles: the role of the assistant in the dialogues; several if they share weights: all
            weights of the model, or `policy.shared_adapter`.
        inference: how agents that are evaluated sample from the model.
        frozen: role -> "base" or an adapter folder, for other roles of agents that are evaluated.
    """

    validation_metrics = ("val/loss", "val/token_accuracy")

    def __init__(
        self,
        policy: Policy,
        optim: Optim = Optim(),
        tokens_per_batch: int = 16384,
        train_roles: Sequence[str] = ("solver",),
        inference: Inference = Inference(sampling=Sampling(max_new_tokens=2048)),
        frozen: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            policy, optim, tokens_per_batch, train_roles, inference=inference, frozen=frozen
        )
        if len(self.train_roles) > 1 and policy.has_adapters and not policy.shared_adapter:
            raise ValueError(
                f"SFT trains one adapter, and train_roles names {', '.join(self.train_roles)}: "
                "train each in a run of its own, or set policy.shared_adapter"
            )
        self.val_loss = MeanMetric()
        self.val_accuracy = MeanMetric()

    def training_step(self, batch: ItemBatch[Row], batch_idx: int) -> None:
        self.serving.release()
        rows = batch.items
        start = time.perf_counter()
        weight = sum_over_ranks(sum(sum(row.mask[1:]) for row in rows), self.device)
        parts: list[Tensor] = []  # loss, hits and tokens, read once
        positions = filled = 0
        chunks = micro_batches(rows, self.tokens_per_batch, self.loaded.reading)
        batches = collated(rows, chunks, self.device, self.loaded.reading)
        for number, part in enumerate(self.loaded.evened(batches)):
            self.progress("update", number, len(chunks))
            logprobs, _, hit = self.loaded.logprobs(part)
            piece = -(logprobs * part.mask).sum() / max(weight, 1e-9)
            self.update_backward(piece, last=number == len(chunks) - 1)
            # a down-weighted prompt is not what the model is judged on
            whole = part.mask >= 1
            parts.append(torch.stack([piece.detach(), (hit & whole).sum(), whole.sum()]))
            positions += part.positions
            filled += part.filled
        norm = self.step_optimizer()
        loss, hits, trained = torch.stack(parts).sum(0).tolist() if parts else (0.0, 0.0, 0.0)
        spent = time.perf_counter() - start
        loss, hits, trained, positions, filled = (  # every rank logs what all of them did
            sum_over_ranks(each, self.device) for each in (loss, hits, trained, positions, filled)
        )
        self.log_scalars(
            {
                "loss": loss,
                "token_accuracy": hits / max(trained, 1.0),
                "grad_norm": norm,
                "lr": self.optimizers().param_groups[-1]["lr"],
                "tokens": filled,
                "tokens_per_second": filled / spent,
                "padding": max(1 - filled / max(positions, 1), 0.0),
            },
            len(rows),
            shown=("loss",),
        )

    def on_validation_epoch_start(self) -> None:
        # what `validate` leaves behind cannot be updated in `fit`
        for metric in (self.val_loss, self.val_accuracy):
            metric.reset()

    @torch.no_grad()
    def validation_step(self, batch: ItemBatch[Any], batch_idx: int) -> None:
        rows = batch.items
        if not all(isinstance(row, Row) for row in rows):
            return  # a loop for callbacks alone
        if not rows:  # nor may a rank without rows leave out what all ranks add up in the end
            for metric in (self.val_loss, self.val_accuracy):
                metric.update(torch.zeros(0, device=self.device), 1.0)
        chunks = micro_batches(rows, self.tokens_per_batch, self.loaded.reading)
        for part in self.loaded.evened(collated(rows, chunks, self.device, self.loaded.reading)):
            logprobs, _, hit = self.loaded.logprobs(part)
            whole = part.mask >= 1
            self.val_loss.update(-logprobs[whole], 1.0)
            self.val_accuracy.update(hit[whole].float(), 1.0)

    def on_validation_epoch_end(self) -> None:
        if self.val_loss.update_called:
            self.log("val/loss", self.val_loss, prog_bar=True)
            self.log("val/token_accuracy", self.val_accuracy)
