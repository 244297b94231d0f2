"""Choosing the next token: temperature, top-k, top-p, by inverse CDF on given uniform numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def uniforms(key: tuple[int | str, ...], n: int) -> np.ndarray:
    """The `n` uniform numbers in [0, 1) that belong to `key`, whatever else is drawn: one per token position.

    Philox (Salmon et al. 2011) seeded with a hash of the key, so a draw depends on what it is for, not on batch order.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest))).random(n, dtype=np.float32)


def choose(logits: Tensor, temperature: Tensor, top_p: Tensor, top_k: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Samples one token per row. logits (B, V) float; the others (B,); temperature 0 is greedy, top_k 0 is off.

    Returns token ids (B,) and log-probabilities (B,), in nats, under softmax(logits / temperature) *before*
    truncation (greedy: temperature 1), so that a policy that scores its own samples gets ratio 1.
    """
    logits = logits.float()
    greedy = temperature == 0
    logps = torch.log_softmax(logits / torch.where(greedy, 1.0, temperature)[:, None], dim=-1)
    probs = logps.exp()
    truncated = ~greedy & ((top_p < 1) | (top_k > 0))
    if truncated.any():
        probs[truncated] = _truncate(probs[truncated], top_p[truncated], top_k[truncated])
    cdf = probs.cumsum(-1)
    # `right=True` never lands on a token of probability 0 as long as the target is below the total
    target = (uniform * cdf[:, -1]).clamp(max=torch.nextafter(cdf[:, -1], torch.zeros_like(cdf[:, -1])))
    tokens = torch.searchsorted(cdf, target[:, None], right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    tokens = torch.where(greedy, logits.argmax(-1), tokens)
    return tokens, logps.gather(-1, tokens[:, None]).squeeze(-1)


def _truncate(probs: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """Zeroes what top-k, then top-p on what is left (renormalised), leave out. The likeliest token always stays."""
    ordered, order = probs.sort(dim=-1, descending=True)
    rank = torch.arange(probs.shape[-1], device=probs.device)
    keep = (rank < top_k[:, None]) | (top_k[:, None] == 0)
    ordered = ordered * keep
    ordered = ordered / ordered.sum(-1, keepdim=True)
    before = ordered.cumsum(-1) - ordered
    # top_p = 1 keeps everything: rounding of the cumulative sum must not cut the tail
    keep &= (before < top_p[:, None]) | (rank == 0) | (top_p[:, None] >= 1)
    return probs * torch.zeros_like(probs).scatter(-1, order, keep.to(probs.dtype))
