"""A token sequence to train on, from a dialogue or from a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slm_math.types import Image


class Eyes(Protocol):
    """What rows need to know of how a model sees; `slm_math.policy.sight.Sight` does."""

    def extent(self, images: Sequence[Image]) -> Any: ...


@dataclass(frozen=True)
class Row:
    """A sequence of T tokens to train on, made once and never changed.

    The loss tokens are those that `mask` weighs above 0, except the first token of the row, which
    nothing predicts.

    Args:
        ids: (T,) token ids.
        mask: (T,) the weight of each token's loss; 0 for context.
        logprobs: (T,) the log-probabilities in nats with which an engine sampled, 0 for context.
            Empty for dialogues, which nobody sampled.
        support: (T,) the ids that could be sampled at each token, packed as 32-bit integers;
            nothing where all could. Empty for dialogues.
        turns: (T,) the index of the turn of the trace that sampled each token, -1 for context.
            Empty for dialogues.
        temperature: the temperature of sampling.
        version: the version of the weights that sampled.
        images: what the placeholders among the ids stand for, in order.
        role: the role that wrote the loss tokens.
        rollout: which rollout of the step the row belongs to.
    """

    ids: tuple[int, ...]
    mask: tuple[float, ...]
    logprobs: tuple[float, ...] = ()
    support: tuple[bytes, ...] = ()
    turns: tuple[int, ...] = ()
    temperature: float = 1.0
    version: int = 0
    images: tuple[Image, ...] = ()
    role: str = "solver"
    rollout: int = 0

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """`ids` as an array."""
        return np.array(self.ids, dtype=np.int64)

    @cached_property
    def loss_positions(self) -> NDArray[np.int64]:
        """The positions of the loss tokens in the row."""
        return np.flatnonzero(np.array(self.mask[1:]) > 0) + 1

    @cached_property
    def loss_logprobs(self) -> NDArray[np.float32]:
        """`logprobs` of the loss tokens; NaN where nobody sampled."""
        if not self.logprobs:
            return np.full(len(self.loss_positions), np.nan, dtype=np.float32)
        return np.array(self.logprobs, dtype=np.float32)[self.loss_positions]

    @cached_property
    def loss_weights(self) -> NDArray[np.float32]:
        """`mask` of the loss tokens."""
        return np.array(self.mask, dtype=np.float32)[self.loss_positions]

    @cached_property
    def loss_turns(self) -> NDArray[np.int64]:
        """`turns` of the loss tokens."""
        return np.array(self.turns, dtype=np.int64)[self.loss_positions]

    def width(self, sight: Eyes | None) -> int:
        """The positions that a network with these eyes reads of the row."""
        if sight is None or not self.images:
            return len(self.ids)
        return len(self.ids) + sight.extent(self.images).extra
