"""What is minimized: the kinds of objectives and their options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from slm_math.ranges import check_choices, check_number, check_pair

# how objectives average that do not do it as "grpo" does: see `row_weights`
REDUCTION = {
    "dapo": "token",
    "cispo": "token",
    "dr_grpo": "constant",
    "bnpo": "group",
    "adjusted": "group",
}
CLIP = (0.2, 0.2)  # of the clipped token ratio (Schulman et al. 2017)
# kind -> clip_low and clip_high where it has its own: the ratio of a whole row moves far less
# (Zheng et al. 2025, section 5.1); a weight has no lower bound (MiniMax 2025), and 5 as its upper
# one (Khatri et al. 2025); a gate does not clip
OWN_CLIP: dict[str, tuple[float | None, float | None]] = {
    "gspo": (3e-4, 4e-4),
    "gspo_token": (3e-4, 4e-4),
    "cispo": (1.0, 4.0),
    "sapo": (None, None),
}
SAPO_TAU = (1.0, 1.05)


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
        clip_low: the ratio is clipped from below at 1 - clip_low; by default what the kind's source
            recommends: 3e-4 for gspo and gspo_token, 1 (no bound) for cispo, 0.2 for the others.
            sapo takes neither this nor the next two.
        clip_high: ... and from above at 1 + clip_high ("clip higher" when it is larger; Yu et al.
            2025, with 0.28); by default 4e-4 for gspo and gspo_token, 4 for cispo, 0.2 for the
            others.
        dual_clip: where A < 0, a ratio above this has no more effect (Ye et al. 2020, eq. 5); above
            1, 0 is off; not for cispo.
        sapo_tau: sapo's temperatures for A > 0 and A <= 0; for no other kind.
        beta: weight of the KL penalty to the reference policy; 0 needs no reference.
        first_turn_beta: this weight for the loss tokens of a role's first turn in a rollout, with
            kl_in "loss"; None is beta. A strong one holds the first of several attempts near the
            reference while the later ones learn (Kumar et al. 2024, SCoRe, eq. 3).
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
    clip_low: float | None = None
    clip_high: float | None = None
    dual_clip: float = 0.0
    sapo_tau: tuple[float, float] = SAPO_TAU
    beta: float = 0.0
    first_turn_beta: float | None = None
    kl: Literal["k1", "k2", "k3", "k3_weighted"] = "k3"
    kl_in: Literal["loss", "reward"] = "loss"
    entropy: float = 0.0
    mismatch: Literal["none", "token", "sequence", "geometric"] = "token"
    mismatch_mode: Literal["truncate", "mask"] = "truncate"
    mismatch_low: float = 0.0
    mismatch_high: float = 2.0

    def __post_init__(self) -> None:
        check_choices("objective", self)
        self._set_clip()
        for name in ("dual_clip", "beta", "entropy", "mismatch_low", "mismatch_high"):
            check_number(f"objective.{name}", getattr(self, name))
        if self.first_turn_beta is not None:
            check_number("objective.first_turn_beta", self.first_turn_beta, low=0)
        if self.dual_clip and (self.dual_clip <= 1 or self.kind in ("cispo", "sapo")):
            raise ValueError(
                f"objective.dual_clip must be 0 (off) or above 1, and 0 for {self.kind} here"
            )
        check_pair("objective.sapo_tau", self.sapo_tau, above=0)
        if self.kind != "sapo" and tuple(self.sapo_tau) != SAPO_TAU:
            raise ValueError(
                f"objective.sapo_tau has no effect on {self.kind}: leave it out, or set kind sapo"
            )
        if self.beta < 0:
            raise ValueError(f"objective.beta must be >= 0, got {self.beta}")
        if self.first_turn_beta is not None and self.kl_in == "reward":
            raise ValueError(
                "objective.first_turn_beta needs objective.kl_in loss: a penalty in the reward "
                "lowers the advantage of all turns of a rollout"
            )
        if not 0 <= self.mismatch_low < 1 < self.mismatch_high:
            raise ValueError(
                f"objective: mismatch bounds must enclose 1, got {self.mismatch_low}, "
                f"{self.mismatch_high}"
            )
        if self.kl == "k3_weighted" and self.kl_in == "reward":
            raise ValueError(
                "objective.kl k3_weighted needs objective.kl_in loss: a reward has no ratio"
            )

    def _set_clip(self) -> None:
        """Sets bounds that were left out to those of the kind."""
        bounds = zip(("clip_low", "clip_high"), OWN_CLIP.get(self.kind, CLIP), strict=True)
        for name, default in bounds:
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, default)
            elif self.kind == "sapo":
                raise ValueError(f"objective.{name} has no effect on sapo, which clips nothing")
            else:
                check_number(f"objective.{name}", value, low=0)
        if self.clip_low is not None and self.clip_low > 1:
            raise ValueError(f"objective.clip_low must lie in [0, 1], got {self.clip_low}")

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest ratio that is not clipped."""
        low = 0.0 if self.clip_low is None else 1 - self.clip_low
        return low, math.inf if self.clip_high is None else 1 + self.clip_high

    @property
    def reduction(self) -> str:
        return REDUCTION.get(self.kind, "sequence")

    @property
    def needs_reference(self) -> bool:
        """Whether there is a KL penalty on any token."""
        return self.beta > 0 or bool(self.first_turn_beta)

    @property
    def needs_all_rows(self) -> bool:
        """True when rows of advantage 0 matter, too: their KL, their entropy, or their share of a
        micro-batch.
        """
        return self.needs_reference or self.entropy != 0 or self.kind == "bnpo"
