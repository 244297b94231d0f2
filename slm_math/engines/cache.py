"""The key-value cache of a batch whose rows come and go: left-padded, grown in blocks, rows dropped
and admitted.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _Layer(DynamicLayer):
    """One layer's keys and values, (B, H, L, D) views of buffers that grow by half, so a step
    copies one column.
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
        else:
            end = self._length + key_states.shape[-2]
            if end > self._buffers[0].shape[-2]:
                room = end + max(32, end // 2)
                self._buffers = (
                    self._grown(self._buffers[0], room),
                    self._grown(self._buffers[1], room),
                )
            for buffer, states in zip(self._buffers, (key_states, value_states)):
                buffer[:, :, self._length : end] = states
            self._length = end
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)
        return self.keys, self.values

    def _grown(self, buffer: Tensor, room: int) -> Tensor:
        batch, heads, _, width = buffer.shape
        grown = buffer.new_zeros(batch, heads, room, width)
        grown[:, :, : self._length] = buffer[:, :, : self._length]
        return grown

    def load(self, keys: Tensor, values: Tensor) -> None:
        """Replaces the whole content."""
        self._buffers, self._length = (keys, values), keys.shape[-2]
        self.keys, self.values = keys, values

    def get_seq_length(self) -> int:
        return self._length


class RowCache(Cache):
    """A transformers cache with rows: `keep` some, `join` others."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(layers)])

    @property
    def length(self) -> int:
        return self.layers[0].get_seq_length()

    def keep(self, rows: Tensor, start: int = 0) -> None:
        """Keeps `rows` (indices, repeats allowed) and the positions from `start` on."""
        for layer in self.layers:
            layer.load(
                layer.keys[rows, :, start:].contiguous(), layer.values[rows, :, start:].contiguous()
            )

    def join(self, other: RowCache) -> None:
        """Appends the rows of `other`; the shorter cache is padded on the left."""
        length = max(self.length, other.length)
        for mine, new in zip(self.layers, other.layers):
            keys, values = (
                torch.cat([_pad_left(a, length), _pad_left(b, length)])
                for a, b in ((mine.keys, new.keys), (mine.values, new.values))
            )
            mine.load(keys, values)


def _pad_left(states: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[-2], 0))
