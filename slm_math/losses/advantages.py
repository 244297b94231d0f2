"""Advantages: how much better a sample was than its group. Axes: P problems, G samples per problem."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, normalise: bool = True, eps: float = 1e-4) -> Tensor:
    """rewards (P, G) -> advantages (P, G): A_pg = (r_pg - mean_p) / (std_p + eps), std with Bessel's correction.

    NaN marks a sample without a reward: it counts in no statistic and gets advantage 0. A group whose rewards are all
    equal gets exactly 0 (tested on max == min: rounding makes the standard deviation of equal floats nonzero).
    With `normalise=False` the standard deviation is left out (Liu et al. 2025, "Dr. GRPO").
    Raises ValueError for G < 2. Source: Shao et al. 2024, "DeepSeekMath", eq. 3 and section 4.1.2.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"advantages need rewards of shape (P, G) with G >= 2, got {tuple(rewards.shape)}")
    scored = ~rewards.isnan()
    count = scored.sum(1, keepdim=True)
    values = torch.where(scored, rewards, 0.0)
    centred = torch.where(scored, rewards - values.sum(1, keepdim=True) / count.clamp(min=1), 0.0)
    if normalise:
        variance = centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)
        centred = centred / (variance.sqrt() + eps)
    return torch.where(scored & spread(rewards)[:, None], centred, 0.0)


def spread(rewards: Tensor) -> Tensor:
    """(P, G) -> (P,): True where at least two different rewards were given, so that the group teaches something."""
    high = torch.where(rewards.isnan(), -torch.inf, rewards).amax(1)
    low = torch.where(rewards.isnan(), torch.inf, rewards).amin(1)
    return high > low
