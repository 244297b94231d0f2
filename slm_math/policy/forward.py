"""The only module that runs the network, for training and for the transformers engine.

Axes: B sequences, T tokens of the longest, L tokens in the cache and T new ones, M loss tokens, V
tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slm_math.types import Image


@dataclass(frozen=True)
class Inputs:
    """The network's inputs.

    Args:
        ids: (B, T) token ids; an image is one placeholder.
        positions: (B, T) the position of each token in its sequence, from 0.
        mask: (B, L) 0 at padding, otherwise 1; None if causal attention never reaches padding.
        images: the images of each sequence, in the order of their placeholders; () if there are none.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor | None = None
    images: tuple[tuple[Image, ...], ...] = ()

    def __post_init__(self) -> None:
        if any(self.images):
            raise ValueError("these sequences have images, but the model takes text only")

    @classmethod
    def of_rows(cls, ids: Tensor, images: tuple[tuple[Image, ...], ...] = ()) -> Inputs:
        """Sequences (B, T) padded on the right, where causal attention needs no mask."""
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return cls(ids, positions, images=images)


def hidden_states(model: Any, inputs: Inputs) -> Tensor:
    """The decoder's last hidden states (B, T, H), for training and scoring."""
    decoder = inner(model).get_decoder()
    out = decoder(input_ids=inputs.ids, position_ids=inputs.positions, use_cache=False)
    return out.last_hidden_state


def next_logits(model: Any, inputs: Inputs, cache: Any) -> Tensor:
    """The logits (B, V) after the last token; the new tokens are added to the cache."""
    out = model(
        input_ids=inputs.ids,
        attention_mask=inputs.mask,
        position_ids=inputs.positions,
        use_cache=True,
        logits_to_keep=1,
        **{_cache_argument(type(inner(model))): cache},
    )
    return out.logits[:, -1]


@functools.cache
def _cache_argument(architecture: type) -> str:
    """The name of a model's argument for the cache: transformers 5.24 renames `past_key_values`,
    and 5.40 drops the old name.
    """
    names = inspect.signature(architecture.forward).parameters  # type: ignore[attr-defined]
    return "cache" if "cache" in names else "past_key_values"


def inner(model: Any) -> Any:
    """The transformers model without peft's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def language_head(model: Any) -> Any:
    """A function from hidden states (M, H) to logits (M, V).

    It includes the scaling or soft-capping that some architectures apply after the head.
    """
    base = inner(model)
    head = base.get_output_embeddings()
    config = base.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)  # Cohere multiplies
    divisor = getattr(config, "logits_scaling", None)  # Granite divides

    def logits(hidden: Tensor) -> Tensor:
        out = head(hidden)
        if scale is not None:
            out = out * scale
        if divisor is not None:
            out = out / divisor
        return out if cap is None else torch.tanh(out / cap) * cap

    return logits
