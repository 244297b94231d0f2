"""The GRPO objective on flat vectors of loss tokens. M loss tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Args:
        clip_low: the ratio is clipped from below at 1 - clip_low.
        clip_high: ... and from above at 1 + clip_high.
        beta: weight of the KL penalty to the reference policy; 0 needs no reference.
        reduction: "token" divides by all loss tokens of the optimiser step (DAPO, Yu et al. 2025, eq. 8);
            "sequence" averages over the tokens of a row, then over rows (GRPO, Shao et al. 2024, eq. 3).
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    beta: float = 0.0
    reduction: Literal["token", "sequence"] = "token"


def token_weights(row: Tensor, mask: Tensor, lengths: Tensor, total: float, reduction: str) -> Tensor:
    """(M,) weights so that the step's loss is their dot product with the per-token losses.

    Args:
        row: (M,) row index of each loss token.
        mask: (M,) 1 for a loss token.
        lengths: (N,) loss tokens of each row.
        total: loss tokens ("token") or rows ("sequence") of the whole optimiser step, over all ranks.
    """
    if reduction == "token":
        return mask / max(total, 1)
    return mask / (lengths.clamp(min=1)[row] * max(total, 1))


def k3(logps: Tensor, reference: Tensor) -> Tensor:
    """(M,), (M,) -> (M,): exp(d) - 1 - d, d = reference - logps: unbiased, never negative estimate of KL(pi || ref).

    As a loss term its gradient on on-policy samples is that of KL(ref || pi), not of KL(pi || ref).
    Source: Schulman 2020, "Approximating KL divergence".
    """
    d = reference - logps
    return d.exp() - 1 - d


def policy_loss(
    logps: Tensor,
    old: Tensor,
    advantages: Tensor,
    weights: Tensor,
    objective: Objective,
    reference: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate plus KL penalty, summed with `weights` (all arguments (M,), log-probabilities in nats).

    Per token: -min(r A, clip(r, 1 - low, 1 + high) A) + beta * k3, with r = exp(logps - old).
    Returns the loss and sums over tokens for metrics (divide by the token count).
    Source: Shao et al. 2024, "DeepSeekMath", eq. 3; Schulman et al. 2017, "PPO", eq. 7.
    """
    ratio = (logps - old).exp()
    clipped = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    surrogate = -torch.minimum(ratio * advantages, clipped * advantages)
    loss = (surrogate * weights).sum()
    stats = {
        "policy_loss": loss.detach(),
        "ratio_sum": ratio.detach().sum(),
        "clip_low": ((ratio < 1 - objective.clip_low) & (advantages < 0)).sum(),
        "clip_high": ((ratio > 1 + objective.clip_high) & (advantages > 0)).sum(),
        "drift": (logps - old).detach().abs().sum(),
    }
    if objective.beta and reference is not None:
        kl = k3(logps, reference)
        loss = loss + objective.beta * (kl * weights).sum()
        stats["kl_sum"] = kl.detach().sum()
    return loss, stats
