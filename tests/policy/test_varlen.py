"""Attention without padding, by a kernel that only GPUs have: what is asked of it, on a stand-in
that computes each segment by itself, and that the kernel takes such arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from policy.test_packing import MODELS, differences
from torch import Tensor

from slm_math.policy import varlen
from slm_math.policy.varlen import Ragged


def by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Any,
    cu_seq_k: Any,
    max_q: int,
    max_k: int,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """The documented meaning of the kernel, aligned at the last query and the last key."""
    assert enable_gqa == (query.shape[1] != key.shape[1])
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    before, after = window_size
    assert after == 0
    made = []
    for n in range(len(cu_seq_q) - 1):
        own = query[cu_seq_q[n] : cu_seq_q[n + 1]]
        keys, values = (each[cu_seq_k[n] : cu_seq_k[n + 1]] for each in (key, value))
        assert len(own) <= max_q
        assert len(keys) <= max_k
        scores = torch.einsum("qhd,khd->hqk", own, keys) * (scale or query.shape[-1] ** -0.5)
        gap = len(keys) - len(own) + torch.arange(len(own))[:, None] - torch.arange(len(keys))
        gap = gap.to(query.device)
        hidden = (gap < 0) | ((gap > before) if before >= 0 else False)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        made.append(torch.einsum("hqk,khd->qhd", weights, values))
    return torch.cat(made)


@pytest.mark.parametrize("kind", MODELS)
def test_segments_without_padding_get_what_each_row_gets_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def kernel() -> Callable[..., Tensor]:
        asked.append(kind)
        return by_segment

    monkeypatch.setattr(varlen, "applies", lambda query, options: True)
    monkeypatch.setattr(varlen, "kernel", kernel)
    value, gradient = differences(kind)
    assert asked
    assert value < 1e-5
    assert gradient < 1e-6


def arguments(device: str, dtype: torch.dtype = torch.bfloat16) -> tuple[Any, ...]:
    ragged = Ragged.of([3, 2], [np.array([0, 1, 2]), np.array([0, 1, 3, 4])]).to(device)
    query, key = (torch.zeros(5, heads, 16, dtype=dtype, device=device) for heads in (4, 2))
    return query, key, key, ragged


def test_segments_are_told_by_where_they_begin() -> None:
    *_, ragged = arguments("cpu")
    assert ragged.keys.tolist() == [0, 1, 2, 0, 1, 3, 4]
    assert (ragged.queries.tolist(), ragged.seen.tolist()) == ([0, 3, 5], [0, 3, 7])
    assert ragged.longest == (3, 4)
    assert ragged.queries.dtype == ragged.seen.dtype == torch.int32


@pytest.mark.parametrize("window", [None, 2])
def test_the_kernel_of_pytorch_takes_them(window: int | None) -> None:
    if varlen.kernel() is None:
        pytest.skip("this version of PyTorch has no such kernel")
    *states, ragged = arguments("meta")
    made = varlen.attended(*states, ragged=ragged, options={"sliding_window": window})
    assert made.shape == (5, 4, 16)


def test_it_is_asked_for_gpus_only() -> None:
    query, *_ = arguments("cpu")
    assert not varlen.applies(query[None].transpose(1, 2), {})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("window", [None, 5])
def test_the_kernel_computes_what_it_says(window: int | None) -> None:
    draw = np.random.default_rng(0)
    lengths = [40, 3, 17]
    places = [np.arange(40), np.arange(43), np.concatenate([np.arange(20), np.arange(43, 60)])]
    ragged = Ragged.of(lengths, places).to("cuda")
    query, key, value = (
        torch.tensor(draw.normal(size=(60, heads, 64)), dtype=torch.bfloat16, device="cuda")
        for heads in (4, 2, 2)
    )
    assert varlen.applies(query[None].transpose(1, 2), {})
    made = varlen.attended(query, key, value, ragged=ragged, options={"sliding_window": window})
    expected = by_segment(
        query.double(),
        key.double()[ragged.keys],
        value.double()[ragged.keys],
        cu_seq_q=ragged.queries.tolist(),
        cu_seq_k=ragged.seen.tolist(),
        max_q=40,
        max_k=43,
        scale=None,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=True,
    )
    assert (made - expected).abs().max() < 0.03
