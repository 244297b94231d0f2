"""Advantages: how much better a sample was than others of its problem. Axes: P problems, G samples,
K reward parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from slm_math.ranges import check_choices, check_number


@dataclass(frozen=True)
class Advantage:
    """How rewards become advantages.

    Args:
        baseline: what is subtracted. "group": the mean of the problem's samples (GRPO, Shao et al.
            2024); "leave_one_out": the mean of its other samples (RLOO, Kool et al. 2019, Ahmadian
            et al. 2024); "batch": the mean of all samples of the step (REINFORCE++, Hu 2025);
            "none": nothing.
        scale: what divides the difference. "group": the standard deviation of the problem's samples
            (GRPO); "batch": that of all samples of the step (Liu et al. 2025, "Tricks or Traps");
            "none": nothing (Dr. GRPO, Liu et al. 2025).
        per_part: every part of the reward gets its own advantages by `baseline` and `scale`; their
            weighted sum is divided by its standard deviation over the step (GDPO, Liu et al. 2026):
            no part drowns in another's spread.
        eps: added to standard deviations.
    """

    baseline: Literal["group", "leave_one_out", "batch", "none"] = "group"
    scale: Literal["group", "batch", "none"] = "group"
    per_part: bool = False
    eps: float = 1e-4

    def __post_init__(self) -> None:
        check_choices("advantage", self)
        check_number("advantage.eps", self.eps, low=0)


def advantages(rewards: Tensor, how: Advantage = Advantage()) -> Tensor:
    """rewards (P, G) -> advantages (P, G): A_pg = (r_pg - baseline) / (std + eps), std with
    Bessel's correction.

    NaN marks a sample without a reward: it counts in no statistic and gets advantage 0. Where the
    baseline or the scale is the group's, a group whose rewards are all equal gets exactly 0, tested
    on max == min: rounding makes the standard deviation of equal floats nonzero. (With neither,
    such groups produce a gradient: that is the point of a batch baseline, or of none.)

    Raises ValueError for G < 2. Source: Shao et al. 2024, "DeepSeekMath", section 4.1.2, and see
    `Advantage`.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"advantages need rewards of shape (P, G) with G >= 2, got {tuple(rewards.shape)}"
        )
    grouped = how.baseline in ("group", "leave_one_out")
    scored = ~rewards.isnan()
    centered = rewards - (_mean(rewards, grouped) if how.baseline != "none" else 0.0)
    if how.baseline == "leave_one_out":  # r - mean of the others = (r - mean of all) * n / (n - 1)
        n = scored.sum(1, keepdim=True)
        centered = centered * n / (n - 1).clamp(min=1)
    if how.scale != "none":
        centered = centered / (_std(rewards, how.scale == "group") + how.eps)
    alive = torch.ones(len(rewards), dtype=torch.bool, device=rewards.device)
    if grouped or how.scale == "group":
        alive = has_signal(rewards)
    elif "batch" in (how.baseline, how.scale):
        alive = has_signal(rewards.reshape(1, -1)).expand(len(rewards))
    return torch.where(scored & alive[:, None], centered, 0.0)


def part_advantages(parts: Tensor, weights: Tensor, how: Advantage) -> Tensor:
    """parts (K, P, G) of the reward, weights (K,) -> (K, P, G): what each part adds to the
    advantage S / (std(S) + eps), S = sum_k w_k A_k.

    A_k are the `advantages` of part k, std is over all samples. The source also subtracts the mean
    of S, which is zero for a group's baseline; leaving that out keeps constant groups at exactly 0.
    A sample counts when all its parts (of weight not 0) do. Source: Liu et al. 2026, "GDPO: Group
    reward-Decoupled Normalization Policy Optimization".
    """
    used = (weights != 0)[:, None, None]
    scored = ~(parts.isnan() & used).any(0)
    parts = torch.where(scored, parts, torch.nan)
    shares = torch.stack([w * advantages(part, how) for w, part in zip(weights, parts)])
    shares = torch.where(used & scored, shares, 0.0)
    scale = _std(torch.where(scored, shares.sum(0), torch.nan), False) + how.eps
    return torch.where(shares != 0, shares / scale, 0.0)


def has_signal(rewards: Tensor) -> Tensor:
    """(P, G) -> (P,): True where at least two different rewards were given, so that the
    group produces a gradient.
    """
    if not rewards.numel():
        return torch.zeros(len(rewards), dtype=torch.bool)
    high = torch.where(rewards.isnan(), -torch.inf, rewards).amax(1)
    low = torch.where(rewards.isnan(), torch.inf, rewards).amin(1)
    return high > low


def _mean(values: Tensor, grouped: bool) -> Tensor:
    """(P, 1) or (1, 1): the mean of what is not NaN, of each group or of all."""
    table = values if grouped else values.reshape(1, -1)
    return table.nansum(1, keepdim=True) / (~table.isnan()).sum(1, keepdim=True).clamp(min=1)


def _std(values: Tensor, grouped: bool) -> Tensor:
    """(P, 1) or (1, 1): the standard deviation of what is not NaN, with Bessel's correction; 0 for
    fewer than two.
    """
    table = values if grouped else values.reshape(1, -1)
    squares = (table - _mean(table, True)).square().nansum(1, keepdim=True)
    return (squares / ((~table.isnan()).sum(1, keepdim=True) - 1).clamp(min=1)).sqrt()
