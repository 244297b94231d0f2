"""Attention over segments of any lengths without padding: PyTorch's kernel for sequences of
different lengths, on GPUs in 16 bits.

Axes: W tokens of all segments, S segments, L keys of all segments, one after the other, D width of
a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slm_math.policy.transfer import put

HALF = (torch.float16, torch.bfloat16)
WIDEST = 256  # head that the kernel takes
AMPERE = (8, 0)  # the first GPUs that have it


@dataclass(frozen=True)
class Ragged:
    """Segments as the kernel reads them.

    Args:
        keys: (L,) where the tokens that a segment's last token attends to stand in W.
        queries: (S + 1,) int32, where each segment's tokens begin in W, and W.
        seen: (S + 1,) int32, where each segment's keys begin in L, and L.
        longest: the most tokens, and the most keys, of a segment.
    """

    keys: Tensor
    queries: Tensor
    seen: Tensor
    longest: tuple[int, int]

    @classmethod
    def of(cls, lengths: Sequence[int], places: Sequence[NDArray[np.int64]]) -> Ragged:
        """Segments with these numbers of tokens, which attend to the tokens at these places, their
        own last.
        """
        ends = [len(each) for each in places]
        return cls(
            torch.from_numpy(np.concatenate(places)),
            queries=_begins(lengths),
            seen=_begins(ends),
            longest=(max(lengths), max(ends)),
        )

    def to(self, device: torch.device | str) -> Ragged:
        keys, queries, seen = (put(each, device) for each in (self.keys, self.queries, self.seen))
        return Ragged(keys, queries, seen, self.longest)


def _begins(lengths: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))


@cache
def kernel() -> Callable[..., Tensor] | None:
    """PyTorch's kernel; None for a version that has none with windows and shared keys."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    wanted = {"cu_seq_q", "cu_seq_k", "max_q", "max_k", "window_size", "scale", "enable_gqa"}
    return varlen_attn if wanted <= set(inspect.signature(varlen_attn).parameters) else None  # type: ignore[return-value]


def applies(query: Tensor, options: Mapping[str, Any]) -> bool:
    """Whether the kernel computes this attention, (1, heads, W, D)."""
    plain = options.get("position_bias") is None and options.get("softcap") is None
    return (
        query.is_cuda
        and query.dtype in HALF
        and query.shape[-1] <= WIDEST
        and query.shape[-1] % 8 == 0
        and plain
        and not options.get("dropout")
        and torch.cuda.get_device_capability(query.device) >= AMPERE
        and kernel() is not None
    )


def attended(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, options: Mapping[str, Any]
) -> Tensor:
    """(W, heads, D) of (W, heads, D) and twice (W, G, D). The last token of a segment attends to
    all of its keys, the one before to all but the last, and so on.
    """
    compute = kernel()
    assert compute is not None
    window = options.get("sliding_window")
    most_queries, most_keys = ragged.longest
    return compute(
        query=query.contiguous(),
        key=key.index_select(0, ragged.keys),
        value=value.index_select(0, ragged.keys),
        cu_seq_q=ragged.queries,
        cu_seq_k=ragged.seen,
        max_q=most_queries,
        max_k=most_keys,
        scale=options.get("scaling"),
        # how many tokens before itself a token sees, and how many after
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
