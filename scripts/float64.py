"""What is always float32, in a model and in the signals of an update, in float64 instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers.models.qwen2 import modeling_qwen2 as qwen2

from slm_math.data.rows import Row
from slm_math.losses.policy import row_weights
from slm_math.modules import grpo
from slm_math.policy.batches import token_counts


@contextmanager
def in_float64() -> Iterator[None]:
    """Qwen2's norms and rotary angles, `GRPOModule`'s signals, and new tensors are float64."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(qwen2.Qwen2RMSNorm, "forward", norm))
        stack.enter_context(patch.object(qwen2.Qwen2RotaryEmbedding, "forward", angles))
        stack.enter_context(patch.object(grpo, "token_advantages", advantages))
        stack.enter_context(patch.object(grpo, "token_weights", weights))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        yield


def angles(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
    half = position_ids[..., None].to(x.dtype) * self.inv_freq.to(x.dtype)
    return torch.cat((half, half), -1).cos(), torch.cat((half, half), -1).sin()


def norm(self: Any, x: Tensor) -> Tensor:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)


def advantages(rows: Sequence[Row], by_role: Mapping[str, Tensor], credits: Any) -> Tensor:
    """`token_advantages` in float64, without credits."""
    own = torch.stack([by_role[row.role][row.rollout].sum() for row in rows])
    return own.repeat_interleave(token_counts(rows))


def weights(
    rows: Sequence[Row],
    groups: Sequence[int],
    reduction: str,
    totals: Mapping[str, float],
    budgets: Mapping[str, int],
) -> Tensor:
    """`token_weights` in float64, for one role whose rows all count."""
    [(role, total)] = totals.items()
    counts = token_counts(rows)
    own = row_weights(counts, reduction, total, torch.tensor(groups), budgets[role])
    return own.repeat_interleave(counts)
