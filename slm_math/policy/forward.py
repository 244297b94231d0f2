"""The only module that runs the network, for training and for the transformers engine.

Axes: B sequences, T tokens of the longest, L tokens in the cache and T new ones, M loss tokens, V
tokens of the vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

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
    out = decoder(input_ids=inputs.ids, position_ids=inputs.positions, use_cache=False)
    return out.last_hidden_state


def next_logits(
    model: Any,
    ids: Tensor,
    lengths: Tensor,
    cache: RowCache,
    images: tuple[tuple[Image, ...], ...] = (),
) -> Tensor:
    """The logits (B, V) after the last token of each sequence, for decoding.

    Args:
        model: the model.
        ids: (B, T) the tokens that the cache does not hold yet, padded on the left.
        lengths: (B,) the number of tokens of each sequence, those in the cache included.
        cache: keys and values of the earlier tokens; the new ones are added to it.
        images: the images of each sequence if `ids` holds the prompts, otherwise ().
    """
    inputs = _decoding_inputs(
        model.device, ids, lengths=lengths, before=cache.length, images=images
    )
    out = model(
        input_ids=inputs.ids,
        attention_mask=inputs.mask,
        position_ids=inputs.positions,
        use_cache=True,
        logits_to_keep=1,
        **{_cache_argument(type(inner(model))): cache},
    )
    return out.logits[:, -1]


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


class _Layer(DynamicLayer):
    """Keys and values (B, H, L, D) of one layer.

    They are views of buffers that grow by half, so that a decoding step copies one position only.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if self._buffers is None:
            self.lazy_initialization(key_states, value_states)
            self.load(key_states, value_states)
            return key_states, value_states
        end = self._length + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            capacity = end + max(32, end // 2)
            self._buffers = (
                self._grown(self._buffers[0], capacity),
                self._grown(self._buffers[1], capacity),
            )
        for buffer, states in zip(self._buffers, (key_states, value_states)):
            buffer[:, :, self._length : end] = states
        self._length = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.states

    @property
    def states(self) -> tuple[Tensor, Tensor]:
        """Keys and values. The layer must have some."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def _grown(self, buffer: Tensor, capacity: int) -> Tensor:
        batch, heads, _, width = buffer.shape
        grown = buffer.new_zeros(batch, heads, capacity, width)
        grown[:, :, : self._length] = buffer[:, :, : self._length]
        return grown

    def load(self, keys: Tensor, values: Tensor) -> None:
        """Replaces keys and values."""
        self._buffers, self._length = (keys, values), keys.shape[-2]
        self.keys, self.values = keys, values

    def get_seq_length(self) -> int:
        return self._length


class RowCache(Cache):
    """A transformers cache from which rows are selected (`keep`) and to which others are added
    (`join`).
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(layers)])

    @property
    def _own_layers(self) -> list[_Layer]:
        return cast(list[_Layer], self.layers)

    @property
    def length(self) -> int:
        """The number of positions in the cache, padding included."""
        return self._own_layers[0].get_seq_length()

    def keep(self, rows: Tensor, start: int = 0) -> None:
        """Keeps `rows` (indices, repeats allowed) and the positions from `start` on."""
        for layer in self._own_layers:
            keys, values = layer.states
            layer.load(keys[rows, :, start:].contiguous(), values[rows, :, start:].contiguous())

    def join(self, other: RowCache) -> None:
        """Appends the rows of `other`; the shorter cache is padded on the left."""
        length = max(self.length, other.length)
        for mine, theirs in zip(self._own_layers, other._own_layers):
            keys, values = (
                torch.cat([_pad_left(old, length), _pad_left(new, length)])
                for old, new in zip(mine.states, theirs.states)
            )
            mine.load(keys, values)


def _pad_left(states: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[-2], 0))
