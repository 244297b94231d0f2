"""A token sequence to train on, from a dialogue or from a trace."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Row:
    """A token sequence to train on. All lists have its length; `mask[t]` > 0 says that token t is
    learnt.

    `mask` weighs the token's loss (0 for context) and `weight` the whole row's; `logps` are
    sampling log-probabilities in nats, `reference` those of the reference policy (0 for context);
    `kept[t]` packs the ids that could be sampled at t, nothing where all could. `sample` is the
    index of the trace that the row is of, `group` that of its problem; `cut` says that a reply of
    its role was cut off there; `kl` estimates KL(policy || reference), summed over loss tokens.
    """

    ids: list[int]
    mask: list[float]
    logps: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    temperature: float = 1.0
    weight: float = 1.0
    advantage: float = 0.0
    role: str = "solver"
    sample: int = 0
    group: int = 0
    cut: bool = False
    kl: float = 0.0

    @property
    def learnt(self) -> list[int]:
        """The positions of the loss tokens (the first token of a row has nothing to be predicted
        from).
        """
        return [t for t in range(1, len(self.ids)) if self.mask[t] > 0]

    @property
    def loss_tokens(self) -> int:
        return len(self.learnt)
