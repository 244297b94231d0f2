"""The only module that runs the network, for training and for the transformers engine.

Axes: B sequences, T tokens of the longest, L tokens in the cache and T new ones, M loss tokens, V
tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from slm_math.policy.caches import DecodingCache, OwnCaches
from slm_math.types import Image


@dataclass(frozen=True)
class Inputs:
    """The network's inputs.

    Args:
        ids: (B, T) token ids; an image is one placeholder.
        positions: (B, T) the position of each token in its sequence, from 0.
        mask: (B, L) 0 at padding, otherwise 1; None if causal attention never reaches padding.
        images: the images of each sequence in the order of their placeholders; () if there are
            none.
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
    options = {"position_ids": inputs.positions, "use_cache": False}
    return decoder(input_ids=inputs.ids, **_accepted(decoder, options)).last_hidden_state


def next_logits(
    model: Any,
    ids: Tensor,
    lengths: Tensor,
    cache: DecodingCache,
    images: tuple[tuple[Image, ...], ...] = (),
) -> Tensor:
    """The logits (B, V) after the last token of each sequence, for decoding.

    Args:
        model: the model.
        ids: (B, T) the tokens that the cache does not hold yet, padded on the left.
        lengths: (B,) the number of tokens of each sequence, those in the cache included.
        cache: what is remembered of the earlier tokens; the new ones are added to it.
        images: the images of each sequence if `ids` holds the prompts, otherwise ().
    """
    if isinstance(cache, OwnCaches):
        return _unpadded_logits(model, ids, lengths=lengths, cache=cache, images=images)
    inputs = _decoding_inputs(
        model.device, ids, lengths=lengths, before=cache.length, images=images
    )
    options = {"attention_mask": inputs.mask, "position_ids": inputs.positions}
    return _last_logits(model, inputs.ids, cache, options)


def _unpadded_logits(
    model: Any,
    ids: Tensor,
    lengths: Tensor,
    cache: OwnCaches,
    images: tuple[tuple[Image, ...], ...],
) -> Tensor:
    """`next_logits` with a forward pass for each group of rows of one length, which need neither
    padding nor mask.
    """
    parts, order = [], []
    for rows, own in cache.groups(lengths):
        new = ids[rows][:, -int(lengths[rows[0]]) :]
        positions = lengths[rows][:, None] - new.shape[1] + torch.arange(new.shape[1])
        of_rows = tuple(images[row] for row in rows) if images else ()
        inputs = Inputs(new.to(model.device), positions.to(model.device), images=of_rows)
        parts.append(_last_logits(model, inputs.ids, own, {"position_ids": inputs.positions}))
        order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort().to(model.device)]


def _last_logits(model: Any, ids: Tensor, cache: Any, options: dict[str, Any]) -> Tensor:
    """The logits (B, V) after the last of the tokens `ids` (B, T), which the cache receives."""
    base = inner(model)
    options = options | {"use_cache": True, "logits_to_keep": 1}
    argument = {str(cache_argument(type(base))): cache}
    return model(input_ids=ids, **_accepted(base, options), **argument).logits[:, -1]


def _decoding_inputs(
    device: torch.device,
    ids: Tensor,
    lengths: Tensor,
    before: int,
    images: tuple[tuple[Image, ...], ...],
) -> Inputs:
    """The network's inputs for the new tokens of left-padded sequences.

    `before` is the number of positions in the cache.
    """
    width = before + ids.shape[1]
    # (B, L): position in its sequence, negative at padding
    place = torch.arange(width) - (width - lengths[:, None])
    positions = place[:, -ids.shape[1] :].clamp(min=0)
    mask = (place >= 0).long()
    whole = bool(mask.all()) and ids.shape[1] == 1
    return Inputs(
        ids=ids.to(device),
        positions=positions.to(device),
        mask=None if whole else mask.to(device),
        images=images,
    )


@functools.cache
def _arguments(architecture: type) -> frozenset[str]:
    return frozenset(inspect.signature(architecture.forward).parameters)  # type: ignore[attr-defined]


def _accepted(module: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that a network's forward pass names; not all have positions, for example."""
    names = _arguments(type(module))
    return {name: value for name, value in options.items() if name in names}


def cache_argument(architecture: type) -> str | None:
    """The name of a model's argument for the cache, None if it has none: transformers 5.24 renames
    `past_key_values` and `cache_params`, and 5.40 drops the old names.
    """
    names = _arguments(architecture)
    return next((n for n in ("cache", "past_key_values", "cache_params") if n in names), None)


def inner(model: Any) -> Any:
    """The transformers model without peft's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def language_head(model: Any) -> Any:
    """A function from hidden states (M, H) to logits (M, V).

    It is the model's own forward pass with these states in place of the decoder's, since many
    architectures scale or cap what they hand to the head or what comes out of it.
    """
    base = inner(model)
    decoder = base.get_decoder()

    def logits(hidden: Tensor) -> Tensor:
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        with _replaced(decoder, lambda *args, **kwargs: _Given(last_hidden_state=hidden[None])):
            return base(input_ids=ids, **_accepted(base, {"use_cache": False})).logits[0]

    return logits


class _Given(BaseModelOutput):
    """A decoder's output with its hidden states only; whatever else is asked for is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """The module with another forward pass."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
