"""What decoding remembers of the tokens before: one cache for rows that are padded on the left, and
one for models whose layers keep a state.

Axes: B sequences, H heads, L tokens in the cache, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from transformers import cache_utils
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

# layers whose memory is keys and values by position, or nothing
ATTENTION = {DynamicLayer, DynamicSlidingWindowLayer, getattr(cache_utils, "DummyLayer", None)}


def new_cache(model: Any) -> DecodingCache:
    """An empty cache for a model: a RowCache if all its layers attend, otherwise OwnCaches."""
    config = model.config.get_text_config(decoder=True)
    layers = own_layers(config)
    if attends_only(config):
        return RowCache(max(len(layers), config.num_hidden_layers))
    return OwnCaches(config)


def own_layers(config: Any) -> Sequence[Any]:
    """The layers of the cache that transformers makes for a text model's config."""
    return DynamicCache(config=config).layers


def attends_only(config: Any) -> bool:
    """Whether each layer of a text model remembers keys and values, from which positions can be
    taken away. Other layers (Mamba, linear attention, convolutions) sum the past up in a state,
    which padding on the left would spoil.
    """
    return all(type(layer) in ATTENTION for layer in own_layers(config))


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
    (`join`). Rows are padded on the left.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(layers)])

    @property
    def _filled(self) -> list[_Layer]:
        """The layers that hold something; a layer that shares those of another holds nothing."""
        return [layer for layer in cast(list[_Layer], self.layers) if layer.get_seq_length()]

    @property
    def length(self) -> int:
        """The number of positions in the cache, padding included."""
        filled = self._filled
        return filled[0].get_seq_length() if filled else 0

    def keep(self, rows: Tensor, longest: int | None = None) -> None:
        """Keeps `rows` (indices, repeats allowed) and the last `longest` positions."""
        start = 0 if longest is None else self.length - longest
        for layer in self._filled:
            keys, values = layer.states
            layer.load(keys[rows, :, start:].contiguous(), values[rows, :, start:].contiguous())

    def join(self, other: DecodingCache) -> None:
        """Appends the rows of `other`; the shorter cache is padded on the left."""
        assert isinstance(other, RowCache)
        length = max(self.length, other.length)
        for mine, theirs in zip(self._filled, other._filled, strict=True):
            keys, values = (
                torch.cat([_pad_left(old, length), _pad_left(new, length)])
                for old, new in zip(mine.states, theirs.states)
            )
            mine.load(keys, values)


def _pad_left(states: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[-2], 0))


class OwnCaches:
    """The caches that transformers makes for a model, one for each group of rows that were
    prefilled together: prompts of one length, so that no row is ever padded.

    The rows of a group stay of one length, since a decoding step adds a token to every row.
    """

    def __init__(self, config: Any) -> None:
        self._config = config
        self._groups: list[tuple[Tensor, Cache]] = []
        self._rows = 0

    def groups(self, lengths: Tensor) -> list[tuple[Tensor, Cache]]:
        """(indices of its rows, its cache) for each group; made from the `lengths` of the prompts
        (B,) at the first call.
        """
        if not self._groups:
            self._rows = len(lengths)
            self._groups = [
                (torch.nonzero(lengths == length).flatten(), DynamicCache(config=self._config))
                for length in lengths.unique()
            ]
        return self._groups

    def keep(self, rows: Tensor, longest: int | None = None) -> None:
        """Keeps `rows` (indices, repeats allowed); nothing is padded, whatever the `longest`."""
        rows = rows.cpu()
        kept = []
        for members, cache in self._groups:
            place = torch.full((self._rows,), -1)
            place[members] = torch.arange(len(members))
            chosen = place[rows]
            (where,) = torch.nonzero(chosen >= 0, as_tuple=True)
            chosen = chosen[where]
            if len(chosen):
                if chosen.tolist() != list(range(len(members))):
                    cache.reorder_cache(cast(torch.LongTensor, chosen))
                kept.append((where, cache))
        self._groups, self._rows = kept, len(rows)

    def join(self, other: DecodingCache) -> None:
        """Appends the rows of `other`."""
        assert isinstance(other, OwnCaches)
        self._groups += [(members + self._rows, cache) for members, cache in other._groups]
        self._rows += other._rows


DecodingCache: TypeAlias = RowCache | OwnCaches
