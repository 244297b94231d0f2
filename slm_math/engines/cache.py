"""The key-value cache for continuous batching: rows are left-padded, added and removed."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


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
