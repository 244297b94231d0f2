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


def new_cache(model: Any, rows: Sequence[tuple[States, int]] = ()) -> DecodingCache:
    """A cache for a model: a RowCache if all its layers attend, otherwise OwnCaches. Empty, or a
    RowCache that begins with the first so many positions of other sequences.
    """
    config = model.config.get_text_config(decoder=True)
    layers = own_layers(config)
    if not attends_only(config):
        return OwnCaches(config)
    number = max(len(layers), config.num_hidden_layers)
    return RowCache.of(number, rows) if rows else RowCache(number)


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

    They are views of buffers with room for more rows and positions, in which rows come, move and
    leave: a decoding step copies one position of each row, and a row that ends at most one other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[Tensor, ...] = ()
        self._rows = self._start = self._end = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self._buffers:
            self.load(key_states, value_states)
            return key_states, value_states
        new = key_states.shape[-2]
        self._make_room(self._rows, positions=self._end - self._start, more=new)
        for buffer, states in zip(self._buffers, (key_states, value_states)):
            buffer[: self._rows, :, self._end : self._end + new] = states
        self._end += new
        return self._view()

    @property
    def states(self) -> tuple[Tensor, Tensor]:
        """Keys and values. The layer must have some."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def load(self, keys: Tensor, values: Tensor) -> None:
        """Replaces keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self._buffers = keys, values
        self._rows, self._start, self._end = keys.shape[0], 0, keys.shape[-2]
        self._view()

    def keep(self, rows: Tensor, longest: int) -> None:
        """Keeps `rows` (indices, repeats allowed) and the last `longest` positions."""
        self._start = self._end - longest
        if (found := moves(rows.tolist())) is None:
            keys, values = (states[rows, :, -longest:].contiguous() for states in self.states)
            self.load(keys, values)
            return
        for buffer in self._buffers:
            for place, row in found:
                buffer[place, :, self._start : self._end] = buffer[row, :, self._start : self._end]
        self._rows = len(rows)
        self._view()

    def join(self, keys: Tensor, values: Tensor) -> None:
        """Appends rows, whose last position comes to stand where that of the others is."""
        new, length = keys.shape[0], keys.shape[-2]
        self._make_room(self._rows + new, positions=length, more=0)
        begin = self._end - length
        for buffer, states in zip(self._buffers, (keys, values)):
            # what is left of a row's positions is masked, whatever it is, unless it is no number
            buffer[self._rows : self._rows + new, :, begin : self._end] = states
        self._rows, self._start = self._rows + new, min(self._start, begin)
        self._view()

    def _make_room(self, rows: int, positions: int, more: int) -> None:
        """Makes the buffers hold `rows` rows, `positions` positions up to the last one of now, and
        `more` after it.
        """
        capacity, width = self._buffers[0].shape[0], self._buffers[0].shape[-2]
        if rows <= capacity and positions <= self._end and self._end + more <= width:
            return
        if rows <= capacity < 2 * rows:
            rows = capacity  # others will join
        length = self._end - self._start
        end = max(length, positions)
        width = end + more + max(32, end // 2)
        grown = []
        for buffer in self._buffers:
            _, heads, _, size = buffer.shape
            new = buffer.new_zeros(rows, heads, width, size)
            new[: self._rows, :, end - length : end] = buffer[
                : self._rows, :, self._start : self._end
            ]
            grown.append(new)
        self._buffers = tuple(grown)
        self._start, self._end = end - length, end

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (
            buffer[: self._rows, :, self._start : self._end] for buffer in self._buffers
        )
        return self.states

    def get_seq_length(self) -> int:
        return self._end - self._start


def moves(rows: Sequence[int]) -> list[tuple[int, int]] | None:
    """(to, from) of the rows that come from behind the places that stay; None if some come from
    among these.
    """
    found = [(place, row) for place, row in enumerate(rows) if place != row]
    return found if all(row >= len(rows) for _, row in found) else None


# keys and values (H, L, D) of one sequence, by layer; None for a layer that has none
States: TypeAlias = tuple[tuple[Tensor, Tensor] | None, ...]


class RowCache(Cache):
    """A transformers cache from which rows are selected (`keep`) and to which others are added
    (`join`). Rows are padded on the left.
    """

    keeps_cheaply = True  # rows that leave cost little

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[_Layer() for _ in range(layers)])

    @classmethod
    def of(cls, layers: int, rows: Sequence[tuple[States, int]]) -> RowCache:
        """A cache that begins with the first so many positions of other sequences."""
        cache = cls(layers)
        longest = max(length for _, length in rows)
        if not longest:
            return cache
        for n, layer in enumerate(cache.own):
            known = [
                (row, states[n], length) for row, (states, length) in enumerate(rows) if length
            ]
            if known[0][1] is None:
                continue
            filled = []
            for kind, like in enumerate(known[0][1]):
                heads, _, width = like.shape
                made = like.new_zeros(len(rows), heads, longest, width)
                for row, pair, length in known:
                    assert pair is not None
                    made[row, :, longest - length :] = pair[kind][:, :length]
                filled.append(made)
            layer.load(*filled)
        return cache

    @property
    def own(self) -> list[_Layer]:
        """The layers."""
        return cast(list[_Layer], self.layers)

    @property
    def _filled(self) -> list[_Layer]:
        """The layers that hold something; a layer that shares those of another holds nothing."""
        return [layer for layer in self.own if layer.get_seq_length()]

    @property
    def length(self) -> int:
        """The number of positions in the cache, padding included."""
        return next((n for n in (each.get_seq_length() for each in self.own) if n), 0)

    def row(self, index: int, length: int) -> States:
        """A copy of the last `length` positions of a row."""
        found: list[tuple[Tensor, Tensor] | None] = []
        for layer in self.own:
            if not layer.get_seq_length():
                found.append(None)
                continue
            keys, values = (states[index, :, -length:].clone() for states in layer.states)
            found.append((keys, values))
        return tuple(found)

    def keep(self, rows: Tensor, longest: int | None = None) -> None:
        """Keeps `rows` (indices, repeats allowed) and the last `longest` positions."""
        longest = self.length if longest is None else longest
        for layer in self._filled:
            layer.keep(rows, longest)

    def join(self, other: DecodingCache) -> None:
        """Appends the rows of `other`; the shorter cache is padded on the left."""
        assert isinstance(other, RowCache)
        for mine, theirs in zip(self._filled, other._filled, strict=True):
            mine.join(*theirs.states)


class OwnCaches:
    """The caches that transformers makes for a model, one for each group of rows that were
    prefilled together: prompts of one length, so that no row is ever padded.

    The rows of a group stay of one length, since a decoding step adds a token to every row.
    """

    keeps_cheaply = False

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
