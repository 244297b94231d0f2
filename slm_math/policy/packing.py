"""Rows as one long sequence, without padding, in which what they begin with in common stands once.

All layers but attention compute each token by itself. In `attention` the tokens of a row attend to
those before them in the row, wherever these stand.

Axes: N rows, T tokens of a row, W tokens of all segments; S segments of a bucket, Q tokens of the
longest of them, K tokens up to the end of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from slm_math.policy import varlen
from slm_math.policy.prefixes import Segment, prefix_tree
from slm_math.policy.transfer import put, works_by_itself
from slm_math.policy.varlen import Ragged
from slm_math.types import Image

WASTE = 0.2  # of a bucket's pairs of tokens, at most, with padding
SMALL = 1 << 14  # pairs; fewer of them cost less than a bucket of their own


@dataclass(frozen=True)
class Sequences:
    """N sequences as a network reads them.

    Args:
        ids: (T,) token ids each.
        positions: (T,) the position of each token, or (3, T).
        images: of each sequence, (where its last token stands, the image) in order.
    """

    ids: Sequence[NDArray[np.int64]]
    positions: Sequence[NDArray[np.int64]]
    images: Sequence[tuple[tuple[int, Image], ...]]


@dataclass(frozen=True)
class Bucket:
    """Segments whose attention is computed together.

    Args:
        size: (S, Q, K).
        tokens: of all segments, which stand one after the other in W.
        starts: (S,) the number of tokens before each segment in its rows; (1,) if all are equal.
        begin: whether no segment has tokens before it.
        padded: (S Q,) the index among the bucket's tokens of each query; None if no segment is
            shorter than others.
        back: (tokens,) where each token is among the queries; None likewise.
    """

    size: tuple[int, int, int]
    tokens: int
    starts: Tensor
    begin: bool
    padded: Tensor | None
    back: Tensor | None
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Bucket:
        return replace(
            self,
            starts=put(self.starts, device),
            padded=None if self.padded is None else put(self.padded, device),
            back=None if self.back is None else put(self.back, device),
            masks={},
        )

    def mask(self, window: int | None) -> Tensor | None:
        """(S or 1, 1, Q, K): which tokens a token attends to; None if all before it and itself.

        Args:
            window: the number of last tokens that a token sees, itself included; None is all.
        """
        _, queries, keys = self.size
        if window is not None and window >= keys:
            window = None
        if self.begin and window is None:
            return None
        if window not in self.masks:
            device = self.starts.device
            own = self.starts[:, None, None] + torch.arange(queries, device=device)[:, None]
            own = own.clamp(max=keys - 1)  # padding sees something, too: it would be NaN
            key = torch.arange(keys, device=device)
            seen = key <= own
            self.masks[window] = (seen if window is None else seen & (key > own - window))[:, None]
        return self.masks[window]


@dataclass(frozen=True)
class Packing:
    """Where attention finds the tokens of each segment.

    Args:
        buckets: the segments, in the order of their tokens in W.
        keys: indices into W of the tokens (S, K) of all buckets, flat, one after the other.
        ragged: the same without padding, for GPUs.
        calls: grows by the window of a layer whenever one uses the packing.
    """

    buckets: tuple[Bucket, ...]
    keys: Tensor
    ragged: Callable[[], Ragged]
    calls: list[int | None] = field(default_factory=list)

    def to(self, device: torch.device | str) -> Packing:
        buckets = tuple(each.to(device) for each in self.buckets)
        ragged = self.ragged
        if works_by_itself(device):  # now, while it computes
            there = ragged().to(device)
            ragged = lambda: there  # noqa: E731
        return Packing(buckets, put(self.keys, device), ragged)


@dataclass(frozen=True)
class Packed:
    """The network's inputs for packed rows.

    Args:
        ids: (1, W) token ids, in which images are expanded.
        positions: (1, W) the position of each token in its row, or (3, 1, W).
        images: of the one sequence, in the order of its ids.
        packing: for attention.
        places: by row, where each of its T tokens stands in W.
    """

    ids: Tensor
    positions: Tensor
    images: tuple[tuple[Image, ...], ...]
    packing: Packing
    places: tuple[NDArray[np.int64], ...]

    @property
    def width(self) -> int:
        """W."""
        return self.ids.shape[1]

    def to(self, device: torch.device | str) -> Packed:
        return replace(
            self,
            ids=put(self.ids, device),
            positions=put(self.positions, device),
            packing=self.packing.to(device),
        )


def unused_mask(device: torch.device) -> Tensor:
    """A mask of four axes, which keeps transformers from making one of its own; made there, since a
    copy would wait for the device.
    """
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)


def pack(sequences: Sequences) -> Packed:
    """Sequences as one, on the CPU. Raises ValueError for one without a token, which has no place
    in it.
    """
    empty = [number for number, ids in enumerate(sequences.ids) if not len(ids)]
    if empty:
        raise ValueError(f"row {empty[0]} has no token: leave empty rows out before packing")
    segments, last = prefix_tree(sequences.ids, sequences.images)
    buckets = list(_buckets(segments))
    ordered = list(chain.from_iterable(buckets))
    place = 0
    for segment in ordered:
        segment.place = place
        place += len(segment)
    ids = [sequences.ids[s.sequence][s.start : s.end] for s in ordered]
    positions = [sequences.positions[s.sequence][..., s.start : s.end] for s in ordered]
    images = [
        image
        for s in ordered
        for end, image in sequences.images[s.sequence]
        if s.start <= end < s.end
    ]
    return Packed(
        ids=torch.from_numpy(np.concatenate(ids))[None],
        positions=torch.from_numpy(np.concatenate(positions, axis=-1)).unsqueeze(-2),
        images=(tuple(images),),
        packing=_packing(buckets),
        places=tuple(s.places()[: len(ids)] for s, ids in zip(last, sequences.ids)),
    )


def _buckets(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """The segments in buckets of one kind that waste little, the longest first."""
    bucket: list[Segment] = []
    real = longest = 0
    for segment in sorted(segments, key=lambda s: (*_kind(s), -len(s), -s.end)):
        pairs, longest = len(segment) * segment.end, max(longest, segment.end)
        if bucket:
            whole = (len(bucket) + 1) * len(bucket[0]) * longest
            if _kind(bucket[0]) != _kind(segment) or whole - real - pairs > WASTE * whole + SMALL:
                yield bucket
                bucket, real, longest = [], 0, segment.end
        bucket.append(segment)
        real += pairs
    if bucket:
        yield bucket


def _kind(segment: Segment) -> tuple[bool, int]:
    """What the segments of a bucket have in common. Those at the beginning of rows need no mask,
    and large ones that start alike share one, which would not be small.
    """
    large = len(segment) * segment.end > SMALL
    return segment.start == 0, segment.start if large else 0


def _packing(buckets: Sequence[Sequence[Segment]]) -> Packing:
    made, keys = [], []
    for bucket in buckets:
        wide, long = len(bucket[0]), max(s.end for s in bucket)
        lengths = np.array([len(s) for s in bucket])
        seen = np.empty((len(bucket), long), dtype=np.int64)
        for own, s in zip(seen, bucket):
            # padding repeats the segment's first token
            own[: s.end], own[s.end :] = s.places(), s.place
        keys.append(seen.ravel())
        padded = back = None
        if len(set(lengths)) > 1:
            place = np.arange(wide)
            real = place < lengths[:, None]
            firsts = lengths.cumsum() - lengths
            padded = torch.from_numpy((firsts[:, None] + np.where(real, place, 0)).ravel())
            back = torch.from_numpy(np.flatnonzero(real))
        starts = sorted({s.start for s in bucket})
        starts = starts if len(starts) == 1 else [s.start for s in bucket]
        made.append(
            Bucket(
                size=(len(bucket), wide, long),
                tokens=int(lengths.sum()),
                starts=torch.tensor(starts),
                begin=bucket[0].start == 0,
                padded=padded,
                back=back,
            )
        )
    segments = list(chain.from_iterable(buckets))
    ragged = cache(lambda: Ragged.of([len(s) for s in segments], [s.places() for s in segments]))
    return Packing(tuple(made), torch.from_numpy(np.concatenate(keys)), ragged)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' sdpa attention, which also knows packed rows.

    Without a packing it is transformers' own. With one query, key and value (1, heads, W, D) become
    (1, W, heads, D); options may have a `sliding_window`, and the mask is not used.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key=key, value=value, attention_mask=attention_mask, **options
        )
    return _over_segments(module, (query, key, value), packing, options), None


@torch.compiler.disable(reason="no two packings have the same segments")
def _over_segments(
    module: Any,
    states: tuple[Tensor, Tensor, Tensor],
    packing: Packing,
    options: Mapping[str, Any],
) -> Tensor:
    """`attention` with a packing; `states` are query, key and value."""
    query, key, value = states
    window = options.get("sliding_window")
    packing.calls.append(window)
    if varlen.applies(query, options):
        tokens = (_by_token(each) for each in states)
        return varlen.attended(*tokens, ragged=packing.ragged(), options=options)[None]
    queries = _by_token(query).split([bucket.tokens for bucket in packing.buckets])
    sizes = [size * long for size, _, long in (bucket.size for bucket in packing.buckets)]
    keys, values = (_taken(_by_token(each), packing.keys).split(sizes) for each in (key, value))
    parts = []
    for bucket, own, *seen in zip(packing.buckets, queries, keys, values):
        if bucket.padded is not None:
            own = _taken(own, bucket.padded)
        rows = (each.unflatten(0, (bucket.size[0], -1)).transpose(1, 2) for each in (own, *seen))
        part = _attended(module, *rows, mask=bucket.mask(window), options=options).flatten(0, 1)
        parts.append(part if bucket.back is None else _taken(part, bucket.back))
    return torch.cat(parts)[None]


def _attended(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    options: Mapping[str, Any],
) -> Tensor:
    """(S, Q, heads, D) of (S, heads, Q, D) and twice (S, G, K, D)."""
    plain = options.get("position_bias") is None and options.get("softcap") is None
    if plain and mask is not None and query.device.type == "cpu":
        # transformers repeats keys and values where there is a mask, which this kernel need not
        made = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=options.get("dropout", 0.0),
            scale=options.get("scaling"),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return made.transpose(1, 2)
    return sdpa_attention_forward(
        module, query, key=key, value=value, attention_mask=mask, **options
    )[0]


def _by_token(states: Tensor) -> Tensor:
    """(1, heads, W, D) -> (W, heads, D)."""
    return states[0].transpose(0, 1)


def _taken(states: Tensor, index: Tensor) -> Tensor:
    """(m, heads, D), (n,) -> (n, heads, D)."""
    return states.flatten(1).index_select(0, index).view(len(index), *states.shape[1:])


ALL_ATTENTION_FUNCTIONS.register("sdpa", attention)
