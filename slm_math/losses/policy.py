"""The policy-gradient objectives, on flat vectors of loss tokens. Axes: M loss tokens, N rows.

Nothing here is padded and there is no mask, because the caller gathers the loss tokens. r_t =
exp(log pi_t - log old_t) is the ratio to the policy that sampled, A_t the advantage, w_t the weight
of a token; every objective is a sum over tokens of w_t * (per-token loss).
"""

from __future__ import annotations

import torch
from torch import Tensor

from slm_math.losses.objective import Objective


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
    betas: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum over tokens of w_t * (mismatch_t * surrogate_t + beta_t * kl_t - entropy weight *
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
        betas: (M,) the weight of each token's KL; None is `objective.beta` for all.

    Returns the loss and statistics of the M tokens: sums, and where the name says so maxima and
    minima. Sources: see `Objective`.
    """
    live = weights > 0
    logps, old = torch.where(live, logps, 0.0), torch.where(live, old, 0.0)
    token_ratio = _exp(logps - old)
    ratio = _ratio(logps, old, row=row, live=live, kind=objective.kind)
    advantages = torch.where(live, advantages, 0.0)
    loss_t = _surrogate(ratio, advantages, logps, objective)
    least, most = objective.bounds
    low, high = ratio < least, ratio > most
    # which bounds the weight of a token, whatever the sign of its advantage
    if objective.kind != "cispo":
        low, high = low & (advantages < 0), high & (advantages > 0)
        high = high | ((advantages < 0) & (ratio > (objective.dual_clip or torch.inf)))
    metrics = {
        "tokens": live.sum(),
        "ratio": torch.where(live, ratio, 0.0).sum(),
        "clip_low": low.sum(),
        "clip_high": high.sum(),
    }
    metrics |= _extremes("ratio", ratio, live)
    if sampling is not None:
        correction, raw = mismatch_weights(old, sampling, row=row, live=live, objective=objective)
        loss_t = loss_t * correction
        metrics |= mismatch_metrics(correction, raw, old=old, sampling=sampling, live=live)
    metrics["policy_loss"] = (weights * torch.where(live, loss_t, 0.0)).sum()
    if reference is not None:
        reference = torch.where(live, reference, 0.0)
        metrics["kl"] = kl_estimate(logps, reference).sum()
        if objective.kl_in == "loss":
            weight = objective.beta if betas is None else betas
            if objective.kl == "k3_weighted":
                weight = weight * token_ratio
            loss_t = loss_t + weight * kl_estimate(logps, reference, objective.kl)
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
    clipped = ratio.clamp(*objective.bounds)
    if objective.kind == "cispo":
        return -clipped.detach() * advantages * logps
    if objective.kind == "sapo":
        tau = torch.where(advantages > 0, *(torch.full_like(ratio, t) for t in objective.sapo_tau))
        return -torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages
    gain = torch.minimum(ratio * advantages, clipped * advantages)
    if objective.dual_clip:
        gain = torch.where(
            advantages < 0, torch.maximum(gain, objective.dual_clip * advantages), gain
        )
    return -gain


def _row_sums(values: Tensor, row: Tensor, live: Tensor) -> Tensor:
    """values, row, live, each (M,) -> (M,): for every token the sum over the live tokens of its
    row. The device is not waited for, as the number of rows would need it.
    """
    ordered, order = row.sort()
    places = torch.zeros_like(row)  # of the row among those that have tokens: below M
    places[1:] = (ordered[1:] != ordered[:-1]).cumsum(0)
    place = torch.empty_like(row).scatter(0, order, places)
    return torch.zeros_like(values).index_add(0, place, torch.where(live, values, 0.0))[place]


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
    gap, known = torch.where(scored, (old - sampling).abs(), 0.0), torch.where(scored, raw, 0.0)
    return {
        "scored": scored.sum(),
        "logp_diff": gap.sum(),
        "logp_diff_max": gap.amax() if len(gap) else gap.sum(),
        "mismatch": known.sum(),
        "mismatch_squares": known.square().sum(),
        **_extremes("mismatch", raw, scored),
        "mismatch_corrected": (scored & (correction != raw) & (correction != 1)).sum(),
    }


def _extremes(name: str, values: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """The largest and the smallest of the chosen values (M,); infinite if there are none, since to
    ask would stop the device.
    """
    if not len(values):
        return {}
    return {
        f"{name}_max": torch.where(chosen, values, -torch.inf).amax(),
        f"{name}_min": torch.where(chosen, values, torch.inf).amin(),
    }
