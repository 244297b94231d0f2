"""Decoding steps of static shapes, which a GPU can repeat as graphs.

Each row has a slot in buffers that stay where they are: its keys and values stand from the slot's
beginning, a step writes one position of each, and attention is masked by the lengths. Rows that end
give their slots to others. A step computes as many slots and positions as the next larger size that
was captured, so that few sizes are.

Axes: B slots, H key-value heads, L positions, D width of a head, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from slm_math.policy.caches import DecodingCache, RowCache, States, moves
from slm_math.policy.graphs import Capture
from slm_math.policy.stepping import replays, step

SHORTEST = 128  # positions


def rounded(number: int, least: int = 1) -> int:
    """The next size of `least`, its doubles, and what lies half-way between two of these."""
    size = least
    while size < number:
        size *= 2
    middle = 3 * size // 4
    return middle if number <= middle and middle > least else size


class _Layer:
    """Keys and values (B, H, L, D) of one layer.

    Args:
        keys: a tensor (..., H, ..., D) of the kind and shape of its keys.
        values: likewise.
    """

    def __init__(self, keys: Tensor, values: Tensor, rows: int, width: int) -> None:
        self.buffers = tuple(
            like.new_zeros(rows, like.shape[1], width, like.shape[3]) for like in (keys, values)
        )
        self.places = torch.arange(rows, device=keys.device)
        self.at = self.places
        self.width = width

    def aim(self, at: Tensor, width: int) -> None:
        """Positions (rows,) that `update` writes, of so many that it returns."""
        self.at, self.width = at, width

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Writes one position of the first slots (rows, H, 1, D); returns them up to the width."""
        rows = len(keys)
        for buffer, states in zip(self.buffers, (keys, values)):
            buffer[self.places[:rows], :, self.at] = states[:, :, 0].to(buffer.dtype)
        made = [buffer[:rows, :, : self.width] for buffer in self.buffers]
        return made[0], made[1]


class SlotCache:
    """A cache of fixed size for a model that `replays`, and the steps on it."""

    keeps_cheaply = True

    def __init__(self, base: Any, capture: Capture) -> None:
        self.base = base
        self.layers: list[_Layer] = []
        self.rows = self.longest = 0  # slots in use, and positions of the longest
        self._size = (0, 0)
        self._capture = capture
        self._replays: dict[object, Callable[[], None]] = {}
        self._weights: list[int] = []

    def settle(self) -> None:
        """Forgets captured steps if weights have moved to other memory. Weights that change where
        they are need nothing.
        """
        weights = [weight.data_ptr() for weight in self.base.parameters()]
        if weights != self._weights:
            self._replays.clear()
            self._weights = weights

    def clear(self) -> None:
        """Frees all slots."""
        self.rows = self.longest = 0

    def reserve(self, like: RowCache, rows: int, width: int) -> None:
        """Makes room for so many rows of so many positions with the keys and values of another
        cache. Buffers that do not suffice are replaced, and their steps captured again.
        """
        kinds = [layer.states for layer in like.own]
        own = [layer.buffers for layer in self.layers]
        if rows > self._size[0] or width > self._size[1] or _kinds(own) != _kinds(kinds):
            self._size = (
                max(rounded(rows), self._size[0]),
                max(rounded(width, SHORTEST), self._size[1]),
            )
            before, self.layers = self.layers, [_Layer(*kind, *self._size) for kind in kinds]
            for old, new in zip(before, self.layers if self.rows else []):
                for source, target in zip(old.buffers, new.buffers):
                    target[: self.rows, :, : self.longest] = source[: self.rows, :, : self.longest]
            device = kinds[0][0].device
            self._ids = torch.zeros(self._size[0], 1, dtype=torch.long, device=device)
            self._lengths = torch.ones(self._size[0], dtype=torch.long, device=device)
            vocabulary = self.base.lm_head.out_features
            self._logits = torch.zeros(self._size[0], vocabulary, device=device)
            self._replays.clear()
        self.settle()

    def join(self, other: RowCache, lengths: Sequence[int]) -> None:
        """Takes over the rows of another cache, of which the last `lengths` positions count."""
        longest, rows = max(lengths), len(lengths)
        own = torch.tensor(lengths, device=self._ids.device)[:, None]
        for layer, mine in zip(other.own, self.layers):
            for states, buffer in zip(layer.states, mine.buffers):
                width = states.shape[2]
                # what stands behind a row's last position is masked, whatever it is
                where = torch.arange(longest, device=own.device) + width - own
                index = where.clamp(max=width - 1)[:, None, :, None]
                found = states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))
                buffer[self.rows : self.rows + rows, :, :longest] = found
        self.rows, self.longest = self.rows + rows, max(self.longest, longest)

    def keep(self, rows: Tensor, longest: int | None = None) -> None:
        """Keeps `rows` (indices); no row is longer than `longest`. Raises ValueError if rows come
        from among the places that stay.
        """
        order = rows.tolist()
        moved = moves(order)
        if moved is None:
            raise ValueError("rows of a SlotCache can only move into gaps")
        self.longest = self.longest if longest is None else longest
        for layer in self.layers:
            for buffer in layer.buffers:
                for place, row in moved:
                    buffer[place, :, : self.longest] = buffer[row, :, : self.longest]
        self.rows = len(order)

    def row(self, index: int, length: int) -> States:
        """A copy of the first `length` positions of a row."""
        found = []
        for layer in self.layers:
            keys, values = (buffer[index, :, :length].clone() for buffer in layer.buffers)
            found.append((keys, values))
        return tuple(found)

    def plain(self, lengths: Sequence[int]) -> RowCache:
        """The rows in a cache that grows with them."""
        rows = [(self.row(n, length), length) for n, length in enumerate(lengths)]
        return RowCache.of(len(self.layers), rows)

    def step(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """The logits (rows, V) in 32 bits after a token of each row, which stay until the next
        step.

        Args:
            ids: (rows, 1).
            lengths: (rows,) with the new token.
        """
        count = len(ids)
        rows = min(rounded(count), self._size[0])
        width = min(rounded(self.longest + 1, SHORTEST), self._size[1])
        self._ids[:count] = ids
        self._lengths[:count] = lengths
        kind = self._ids.device.type
        cast_to = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        size = (rows, width, cast_to)
        if size not in self._replays:
            self._replays[size] = self._capture(partial(self._run, rows, width, cast_to))
        self._replays[size]()
        self.longest += 1
        return self._logits[:count]

    def _run(self, rows: int, width: int, cast_to: torch.dtype | None) -> None:
        """The computation of a step: nothing in it depends on numbers that tensors hold."""
        lengths = self._lengths[:rows]
        for layer in self.layers:
            layer.aim(lengths - 1, width)
        hidden = torch.arange(width, device=lengths.device) >= lengths[:, None]
        # casts of weights that are kept would be those of one update
        with torch.autocast(lengths.device.type, cast_to, cast_to is not None, cache_enabled=False):
            made = step(self.base, self._ids[:rows], lengths[:, None] - 1, hidden, cache=self)
        self._logits[:rows] = made


def _kinds(pairs: Sequence[tuple[Tensor, ...]]) -> list[tuple[object, ...]]:
    """What buffers must have in common with keys and values that they hold."""
    return [
        (each.dtype, each.device, each.shape[1], each.shape[3]) for pair in pairs for each in pair
    ]


class Slots:
    """Decides where the rows of a batch are held: in a SlotCache, which stays from one batch to the
    next, or else in their own cache, which grows with them.

    Args:
        capture: how steps are captured; None if they are not.
        limit: the most bytes of keys and values of a SlotCache.
    """

    def __init__(self, capture: Capture | None, limit: int) -> None:
        self.capture, self.limit = capture, limit
        self.cache: SlotCache | None = None

    def settle(self) -> None:
        """The weights have changed."""
        if self.cache is not None:
            self.cache.settle()

    def joined(
        self,
        base: Any,
        before: DecodingCache | SlotCache | None,
        new: DecodingCache,
        lengths: Sequence[int],
        most: int,
    ) -> DecodingCache | SlotCache:
        """The cache of the rows `before` and of new ones.

        Args:
            base: the model.
            before: the cache so far; None if there is none.
            new: the cache of the new rows.
            lengths: the positions of all rows, the new ones last.
            most: the most positions that one of them may come to take.
        """
        old = before is None or isinstance(before, SlotCache)
        if old and isinstance(new, RowCache) and self._fits(base, new, len(lengths), most):
            if self.cache is None or self.cache.base is not base:
                self.cache = SlotCache(base, cast(Capture, self.capture))
            if before is None:
                self.cache.clear()
            self.cache.reserve(new, len(lengths), most)
            self.cache.join(new, lengths[self.cache.rows :])
            return self.cache
        if isinstance(before, SlotCache):
            before = before.plain(lengths[: before.rows])
        if before is None:
            return new
        before.join(new)  # type: ignore[arg-type]
        return before

    def _fits(self, base: Any, new: RowCache, rows: int, most: int) -> bool:
        if self.capture is None or not replays(base):
            return False
        one = sum(each[0, :, :1].nbytes for layer in new.own for each in layer.states)
        return one * rounded(rows) * rounded(most, SHORTEST) <= self.limit
