"""Supervised fine-tuning: next-token loss on what the assistant wrote."""

from __future__ import annotations

import time
from typing import Any

import torch
from torchmetrics import MeanMetric

from slm_math.data.modules import Items
from slm_math.data.rows import Row
from slm_math.modules.base import PolicyModule
from slm_math.modules.optim import Optim
from slm_math.modules.serving import EngineName, Vllm
from slm_math.policy.batches import collate, micro_batches
from slm_math.policy.config import Policy


class SFTModule(PolicyModule):
    """Full, LoRA and QLoRA fine-tuning, by what `policy` says. The data's batch is one optimiser
    step.

    Args:
        policy: the model.
        optim: optimiser and schedule.
        tokens_per_batch: positions of one forward and backward pass; a step accumulates as many as
            it needs.
        slots: requests decoded at once when agents evaluate the model.
        engine: what they sample from: transformers, vllm, or auto (see `PolicyModule`).
        vllm: settings of vLLM.
    """

    def __init__(
        self,
        policy: Policy,
        optim: Optim = Optim(),
        tokens_per_batch: int = 16384,
        slots: int = 64,
        engine: EngineName = "auto",
        vllm: Vllm = Vllm(),
    ) -> None:
        super().__init__(policy, optim, tokens_per_batch, slots=slots, engine=engine, vllm=vllm)
        self.val_loss = MeanMetric()
        self.val_accuracy = MeanMetric()

    def training_step(self, batch: Items[Row], batch_idx: int) -> None:
        self.serving.release()
        rows = batch.items
        start = time.perf_counter()
        total = self.over_ranks(sum(sum(row.mask[1:]) for row in rows))
        loss, hits, tokens, positions, real = 0.0, 0.0, 0, 0, 0
        chunks = list(micro_batches(rows, self.tokens_per_batch))
        for done, chunk in enumerate(chunks):
            self.watch("update", done, len(chunks))
            part = collate(chunk, self.device)
            logps, _, hit = self.loaded.logprobs(part)
            piece = -(logps * part.weight).sum() / max(total, 1e-9)
            piece.backward()
            loss += piece.item()
            hits += (hit & (part.weight >= 1)).sum().item()
            tokens += int((part.weight >= 1).sum())
            positions += part.ids.numel()
            real += int(part.attention.sum())
        norm = self.step_optimizer()
        loss = self.over_ranks(loss)
        self.log_scalars(
            {
                "loss": loss,
                "token_accuracy": hits / max(tokens, 1),
                "grad_norm": norm,
                "lr": self.optimizers().param_groups[-1]["lr"],
                "tokens": real,
                "tokens_per_second": real / (time.perf_counter() - start),
                "padding": 1 - real / max(positions, 1),
            },
            len(rows),
            shown=("loss",),
        )

    def on_validation_epoch_start(self) -> None:
        # what `validate` leaves behind cannot be updated in `fit`
        for metric in (self.val_loss, self.val_accuracy):
            metric.reset()

    @torch.no_grad()
    def validation_step(self, batch: Items[Any], batch_idx: int) -> None:
        if not isinstance(batch.items[0], Row):
            return
        for chunk in micro_batches(batch.items, self.tokens_per_batch):
            part = collate(chunk, self.device)
            logps, _, hit = self.loaded.logprobs(part)
            # whole-weight tokens: a down-weighted prompt is not what the model is judged on
            learnt = part.weight >= 1
            self.val_loss.update(-logps[learnt], 1.0)
            self.val_accuracy.update(hit[learnt].float(), 1.0)

    def on_validation_epoch_end(self) -> None:
        if self.val_loss.update_called:
            self.log("val/loss", self.val_loss, prog_bar=True)
            self.log("val/token_accuracy", self.val_accuracy)
