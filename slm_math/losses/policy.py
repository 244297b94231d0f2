"""The policy-gradient objectives, on flat vectors of loss tokens. Axes: M loss tokens, N rows.

Nothing here is padded and there is no mask, because the caller gathers the loss tokens. r_t =
exp(log pi_t - log old_t) is the ratio to the policy that sampled, A_t the advantage, w_t the weight
of a token; every objective is a sum over tokens of w_t * (per-token loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# how objectives average that do not do it as "grpo" does: see `row_weights`
REDUCTION = {
    "dapo": "token",
    "cispo": "token",
    "dr_grpo": "constant",
    "bnpo": "group",
    "adjusted": "group",
}


@dataclass(frozen=True)
class Objective:
    """What is minimized: a surrogate per token (a), averaged in some way (b), plus what is added to
    it (c).

    Args:
        kind: "grpo" (a: clipped ratio, b: mean over a row's tokens, then over rows; Shao et al.
            2024, eq. 3); "dapo" (b: mean over all tokens of the optimizer step, as trainers
            implement Yu et al. 2025); "adjusted" (b: mean over the tokens of each problem's group,
            then over groups, as Yu et al. write it in eq. 8 and Small-Math-R1 trains); "dr_grpo"
            (b: sum over tokens divided by rows times the token budget; Liu et al. 2025); "bnpo" (b:
            mean over the tokens of each micro-batch, so it depends on `tokens_per_batch`; Xiao et
            al. 2025, as trainers implement it); "gspo" (a: one ratio per row, the geometric mean of
            its tokens', b as grpo; Zheng et al. 2025, eq. 5 to 7); "gspo_token" (the same value
            with a gradient per token; eq. 13 and 14); "cispo" (a: -clip(r) A log pi, no gradient
            through the clipped ratio, b as dapo; MiniMax 2025, eq. 4 and 5); "sapo" (a: a sigmoid
            gate instead of the clip, b as grpo; Gao et al. 2025).
        clip_low: the ratio is clipped from below at 1 - clip_low.
        clip_high: ... and from above at 1 + clip_high ("clip higher" when it is larger; Yu et al.
            2025).
        dual_clip: where A < 0, a ratio above this has no more effect (Ye et al. 2020, eq. 5); above
            1, 0 is off.
        sapo_tau: sapo's temperatures for A > 0 and A <= 0.
        beta: weight of the KL penalty to the reference policy; 0 needs no reference.
        kl: its estimator, see `kl_estimate`; "k3_weighted" is k3 times r.
        kl_in: "loss" adds beta * k_t to each token's loss; "reward" takes beta * (sum of k_t over
            the sample's tokens, at the policy that sampled) off the reward, before a scale of the
            advantages divides both. What each really pulls toward: see `kl_estimate`.
        entropy: weight of the entropy bonus; it is averaged as the loss is.
        mismatch: correction for an engine whose probabilities differ from the trainer's, see
            `mismatch_weights`.
        mismatch_mode: "truncate" clips those weights into the bounds, "mask" drops tokens (or rows)
            outside of them.
        mismatch_low, mismatch_high: the bounds.
    """

    kind: Literal[
        "grpo", "dr_grpo", "dapo", "bnpo", "gspo", "gspo_token", "cispo", "sapo", "adjusted"
    ] = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 0.0
    sapo_tau: tuple[float, float] = (1.0, 1.05)
    beta: float = 0.0
    kl: Literal["k1", "k2", "k3", "k3_weighted"] = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    entropy: float = 0.0
    mismatch: Literal["none", "token", "sequence", "geometric"] = "token"
    mismatch_mode: Literal["truncate", "mask"] = "truncate"
    mismatch_low: float = 0.0
    mismatch_high: float = 2.0

    def __post_init__(self) -> None:
        if not (0 <= self.clip_low <= 1 and self.clip_high >= 0):
            raise ValueError(
                f"objective: clip_low must lie in [0, 1] and clip_high be >= 0, got "
                f"{self.clip_low}, {self.clip_high}"
            )
        if self.dual_clip and (self.dual_clip <= 1 or self.kind in ("cispo", "sapo")):
            raise ValueError(
                f"objective.dual_clip must be 0 (off) or above 1, and 0 for {self.kind} here"
            )
        if self.beta < 0 or min(self.sapo_tau) <= 0:
            raise ValueError(
                f"objective: beta must be >= 0 and sapo_tau > 0, got {self.beta}, {self.sapo_tau}"
            )
        if not 0 <= self.mismatch_low < 1 < self.mismatch_high:
            raise ValueError(
                f"objective: mismatch bounds must enclose 1, got {self.mismatch_low}, "
                f"{self.mismatch_high}"
            )
        if self.kl == "k3_weighted" and self.kl_in == "reward":
            raise ValueError(
                "objective.kl k3_weighted belongs into the loss: in the reward there is no ratio"
            )

    @property
    def reduction(self) -> str:
        return REDUCTION.get(self.kind, "sequence")

    @property
    def needs_all_rows(self) -> bool:
        """True when rows of advantage 0 matter, too: their KL, their entropy, or their share of a
        micro-batch.
        """
        return self.beta > 0 or self.entropy != 0 or self.kind == "bnpo"


def row_weights(
    lengths: Tensor, reduction: str, total: float, groups: Tensor | None = None, budget: int = 1
) -> Tensor:
    """lengths (N,) in loss tokens -> (N,): the weight of every loss token of each row.

    With `total` over all rows, micro-batches and ranks of the optimizer step, so that a loss is a
    plain sum and does not depend on how the step is split (what is masked or empty counts nowhere):

    - "token": 1 / total, total = loss tokens;
    - "constant": 1 / (budget * total), total = samples, budget = the longest reply there can be;
    - "sequence", "group": 1 / (tokens of the row's group * total), total = groups; `groups` (N,)
      holds their indices, a sample each for "sequence" (None: every row is one); all rows of a
      group are in one call.
    """
    total = max(total, 1.0)
    lengths = lengths.double()
    if reduction in ("token", "constant"):
        return torch.full_like(lengths, 1 / total if reduction == "token" else 1 / (budget * total))
    groups = torch.arange(len(lengths)) if groups is None else groups
    tokens = (
        torch.zeros(int(groups.max()) + 1 if len(groups) else 0)
        .double()
        .index_add(0, groups, lengths)
    )
    return 1 / (tokens.clamp(min=1)[groups] * total)


def kl_estimate(logps: Tensor, reference: Tensor, kind: str = "k3") -> Tensor:
    """(M,), (M,) -> (M,): estimates of KL(pi || ref) from one sampled token each; d = reference -
    logps, in nats.

    Values, for samples of pi: k1 = -d, unbiased, may be negative; k2 = d^2 / 2, biased, little
    variance; k3 = exp(d) - 1 - d, unbiased, never negative (Schulman 2020, "Approximating KL
    divergence"). Gradients (of the expectation, on-policy, for the distribution of one token; Tang
    & Munos 2025, "On a few pitfalls in KL divergence gradient estimation"):

    - in the loss: k1 has zero expected gradient; k2 has that of KL(pi || ref); k3 that of KL(ref
      || pi), which pulls toward covering all that the reference does; k3_weighted = r * k3 again
      that of KL(pi || ref) (DeepSeek-V3.2, eq. 7);
    - in the reward: k1 has that of KL(pi || ref), over whole sequences, too; k2 has grad E[k2] -
      grad KL(pi || ref); k3 has grad KL(pi || ref) - grad KL(ref || pi): near the reference these
      two cancel, and little is left of a penalty.
    """
    d = reference - logps
    bounded = d.clamp(max=20.0)  # exp overflows, and nothing is left to tell apart
    return {"k1": lambda: -d, "k2": lambda: d.square() / 2}.get(
        kind, lambda: bounded.expm1() - bounded
    )()


def policy_loss(
    logps: Tensor,
    old: Tensor,
    advantages: Tensor,
    weights: Tensor,
    row: Tensor,
    objective: Objective = Objective(),
    sampling: Tensor | None = None,
    reference: Tensor | None = None,
    entropy: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over tokens of w_t * (mismatch_t * surrogate_t + beta * kl_t - entropy weight *
    entropy_t).

    Args:
        logps: (M,) log pi_t in nats, with gradient; only the policy's are.
        old: (M,) log-probabilities of the policy that sampled, by the trainer.
        advantages: (M,).
        weights: (M,) from `row_weights`; where one is 0 nothing counts, be it NaN or infinite.
        row: (M,) the row of each token, for what is computed per row.
        sampling: (M,) log-probabilities that the engine reported; left out when there is no engine
            to differ.
        reference: (M,) log-probabilities of the reference policy.
        entropy: (M,) of the policy at each token, with gradient when there is a bonus.

    Returns the loss and statistics of the M tokens: sums, and where the name says so maxima and
    minima. Sources: see `Objective`.
    """
    live = weights > 0
    logps, old = torch.where(live, logps, 0.0), torch.where(live, old, 0.0)
    token_ratio = _exp(logps - old)
    ratio = _ratio(logps, old, row=row, live=live, kind=objective.kind)
    advantages = torch.where(live, advantages, 0.0)
    loss_t = _surrogate(ratio, advantages, logps, objective)
    low, high = ratio < 1 - objective.clip_low, ratio > 1 + objective.clip_high
    # which bounds the weight of a token, whatever the sign of its advantage
    if objective.kind != "cispo":
        low, high = low & (advantages < 0), high & (advantages > 0)
        high = high | ((advantages < 0) & (ratio > (objective.dual_clip or torch.inf)))
    if objective.kind == "sapo":  # which clips nothing
        low, high = torch.zeros_like(low), torch.zeros_like(high)
    metrics = {
        "tokens": live.sum(),
        "ratio": ratio[live].sum(),
        "clip_low": low.sum(),
        "clip_high": high.sum(),
    }
    metrics |= (
        {"ratio_max": ratio[live].amax(), "ratio_min": ratio[live].amin()} if live.any() else {}
    )
    if sampling is not None:
        correction, raw = mismatch_weights(old, sampling, row=row, live=live, objective=objective)
        loss_t = loss_t * correction
        metrics |= mismatch_metrics(correction, raw, old=old, sampling=sampling, live=live)
    metrics["policy_loss"] = (weights * torch.where(live, loss_t, 0.0)).sum()
    if reference is not None:
        reference = torch.where(live, reference, 0.0)
        metrics["kl"] = kl_estimate(logps, reference).sum()
        if objective.kl_in == "loss":
            weight = token_ratio if objective.kl == "k3_weighted" else 1.0
            loss_t = loss_t + objective.beta * weight * kl_estimate(logps, reference, objective.kl)
    if entropy is not None:
        entropy = torch.where(live, entropy, 0.0)
        metrics["entropy"] = entropy.sum()
        if objective.entropy:
            loss_t = loss_t - objective.entropy * entropy
    loss = (weights * torch.where(live, loss_t, 0.0)).sum()
    return loss, {name: value.detach() for name, value in (metrics | {"loss": loss}).items()}


def _ratio(logps: Tensor, old: Tensor, row: Tensor, live: Tensor, kind: str) -> Tensor:
    """(M,): exp(logps - old), of the token itself or, for gspo, the geometric mean over its row."""
    gap = logps - old
    if kind not in ("gspo", "gspo_token"):
        return _exp(gap)
    mean = _row_sums(gap, row, live) / _row_sums(torch.ones_like(gap), row, live).clamp(min=1)
    return _exp(mean if kind == "gspo" else mean.detach() + logps - logps.detach())


def _exp(gap: Tensor) -> Tensor:
    """exp(gap), cut off at exp(20): a larger ratio carries no information, and inf * 0 has no
    gradient.
    """
    return gap.clamp(max=20.0).exp()


def _surrogate(ratio: Tensor, advantages: Tensor, logps: Tensor, objective: Objective) -> Tensor:
    """(M,): the loss of each token before averaging."""
    clipped = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    if objective.kind == "cispo":
        return -clipped.detach() * advantages * logps
    if objective.kind == "sapo":
        tau = torch.where(advantages > 0, *(ratio.new_tensor(tau) for tau in objective.sapo_tau))
        return -torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    if objective.dual_clip:
        gain = torch.where(
            advantages < 0, torch.maximum(gain, objective.dual_clip * advantages), gain
        )
    return -gain


def _row_sums(values: Tensor, row: Tensor, live: Tensor) -> Tensor:
    """values, row, live, each (M,) -> (M,): for every token the sum over the live tokens of its
    row.
    """
    sums = values.new_zeros(int(row.max()) + 1 if len(row) else 0)
    return sums.index_add(0, row, torch.where(live, values, 0.0))[row]


def mismatch_weights(
    old: Tensor, sampling: Tensor, row: Tensor, live: Tensor, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (M,) of the trainer and of the engine that sampled -> weights (M,) and raw
    ratios (M,).

    The raw ratio is old / sampling of the token; with "sequence" the product over its row, which
    for long rows leaves the bounds at tiny differences; with "geometric" the geometric mean over
    its row. "truncate" clips it into the bounds (TIS, Yao et al. 2025, "Your efficient RL framework
    secretly brings you off-policy RL training"), "mask" gives 0 to what lies outside (IcePop, Ling
    team 2025). A token without a finite sampling log-probability has ratio
    1. No gradient flows.
    """
    gap = torch.where(live & sampling.isfinite(), old - sampling, 0.0).detach()
    if objective.mismatch in ("sequence", "geometric"):
        gap = _row_sums(gap, row, live)
    if objective.mismatch == "geometric":
        gap = gap / _row_sums(torch.ones_like(gap), row, live).clamp(min=1)
    raw = _exp(gap)
    # nothing is corrected, and the raw ratios are still worth a look
    if objective.mismatch == "none":
        return torch.ones_like(raw), raw
    low, high = objective.mismatch_low, objective.mismatch_high
    if objective.mismatch_mode == "truncate":
        return raw.clamp(low, high), raw
    return torch.where((raw >= low) & (raw <= high), raw, 0.0), raw


def mismatch_metrics(
    correction: Tensor, raw: Tensor, old: Tensor, sampling: Tensor, live: Tensor
) -> dict[str, Tensor]:
    """Statistics of engine against trainer, of the raw ratios (truncated ones would hide what goes
    on).
    """
    scored = live & sampling.isfinite()
    if not scored.any():
        return {}
    gap, raw = (old - sampling)[scored].abs(), raw[scored]
    return {
        "scored": scored.sum(),
        "logp_diff": gap.sum(),
        "logp_diff_max": gap.amax(),
        "mismatch": raw.sum(),
        "mismatch_squares": raw.square().sum(),
        "mismatch_max": raw.amax(),
        "mismatch_min": raw.amin(),
        "mismatch_corrected": ((correction[scored] != raw) & (correction[scored] != 1)).sum(),
    }
