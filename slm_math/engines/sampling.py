"""Samples the next token under temperature, top-k, top-p and min-p, by inverse CDF."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 64  # tokens


def uniforms(key: tuple[int | str, ...], n: int) -> np.ndarray:
    """`n` uniform numbers in [0, 1), one per token position, which depend on `key` alone.

    Philox (Salmon et al. 2011) is seeded with a hash of the key, so that the order of requests in a
    batch does not matter.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest))).random(
        n, dtype=np.float32
    )


def sample_freely(
    logits: Tensor, temperature: Tensor | None, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """`sample_tokens` where no row is greedy and none is truncated, in fewer passes.

    Args:
        logits: (B, V) float.
        temperature: (B,) above 0; None if it is 1 everywhere.
        uniform: (B,) uniform random numbers in [0, 1).

    Returns:
        Token ids (B,) and their log-probabilities (B,) in nats.
    """
    logits = logits.float()
    probs = torch.softmax(logits if temperature is None else logits / temperature[:, None], dim=-1)
    tokens = _inverse_cdf(probs, uniform)
    return tokens, probs.gather(-1, tokens[:, None]).squeeze(-1).log()


def choose_likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token ids (B,) and their log-probabilities (B,) in nats."""
    logits = logits.float()
    best, tokens = logits.max(-1)
    return tokens, best - logits.logsumexp(-1)


def sample_tokens(
    logits: Tensor,
    temperature: Tensor,
    top_p: Tensor,
    top_k: Tensor,
    min_p: Tensor,
    uniform: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Samples one token per row.

    Args:
        logits: (B, V) float.
        temperature: (B,); 0 is greedy. This and the next three are described in `Sampling`.
        top_p: (B,).
        top_k: (B,).
        min_p: (B,).
        uniform: (B,) uniform random numbers in [0, 1).

    Returns:
        Token ids (B,); log-probabilities (B, V) in nats under softmax(logits / temperature)
        *before* truncation (temperature 1 if greedy), so that a policy that scores its own samples
        gets ratio 1; and the support (B, V) bool, the tokens that truncation leaves, or None if no
        row is truncated.
    """
    logits = logits.float()
    greedy = temperature == 0
    scaled = logits / torch.where(greedy, 1.0, temperature)[:, None]
    # the probabilities are those of `sample_freely` to the last bit, and so are its tokens
    logps, probs = torch.log_softmax(scaled, dim=-1), torch.softmax(scaled, dim=-1)
    limited = ~greedy & ((top_p < 1) | (top_k > 0) | (min_p > 0))
    support = None
    if limited.any():
        support = torch.ones_like(probs, dtype=torch.bool)
        support[limited] = _support(probs[limited], top_p[limited], top_k[limited], min_p[limited])
        probs = probs * support
    tokens = _inverse_cdf(probs, uniform)
    if greedy.any():
        tokens = torch.where(greedy, logits.argmax(-1), tokens)
    return tokens, logps, support


def _inverse_cdf(probs: Tensor, uniform: Tensor) -> Tensor:
    """Tokens (B,) drawn from probabilities (B, V), which may sum to less than 1.

    First a block of tokens is drawn, then one of them, since cumulative sums cost more than sums.
    """
    width = probs.shape[-1]
    whole = nn.functional.pad(probs, (0, -width % BLOCK)) if width % BLOCK else probs
    blocks = whole.unflatten(-1, (-1, BLOCK))
    cdf = blocks.sum(-1).cumsum(-1)
    target = _below(uniform * cdf[:, -1], cdf[:, -1])
    # right=True never selects what has probability 0 as long as the target is below the total
    block = torch.searchsorted(cdf, target[:, None], right=True).clamp(max=cdf.shape[-1] - 1)
    before = nn.functional.pad(cdf, (1, 0)).gather(-1, block).squeeze(-1)
    own = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK)).squeeze(1).cumsum(-1)
    target = _below(target - before, own[:, -1])
    place = torch.searchsorted(own, target[:, None], right=True)
    return (block * BLOCK + place).squeeze(-1).clamp(max=width - 1)


def _below(values: Tensor, total: Tensor) -> Tensor:
    """The values, made smaller where they are not below the total."""
    return values.minimum(torch.nextafter(total, torch.zeros_like(total)))


def _support(probs: Tensor, top_p: Tensor, top_k: Tensor, min_p: Tensor) -> Tensor:
    """The support (B, V) bool: top-k, then top-p on the renormalized rest, then min-p.

    It always contains the most likely token.
    """
    if not ((top_p < 1) | (top_k > 0)).any():
        return probs >= min_p[:, None] * probs.amax(-1, keepdim=True)
    # sorting a large vocabulary is slow, and top-k needs the k most likely tokens only
    most = min(int(top_k.max()), probs.shape[-1]) if (top_k > 0).all() else probs.shape[-1]
    ordered, order = (
        probs.topk(most, dim=-1) if most < probs.shape[-1] else probs.sort(dim=-1, descending=True)
    )
    rank = torch.arange(most, device=probs.device)
    keep = (rank < top_k[:, None]) | (top_k[:, None] == 0)
    share = ordered * keep
    share = share / share.sum(-1, keepdim=True)
    before = share.cumsum(-1) - share
    # top_p = 1 keeps everything: rounding of the cumulative sum must not drop the tail
    keep &= (before < top_p[:, None]) | (rank == 0) | (top_p[:, None] >= 1)
    keep &= ordered >= min_p[:, None] * ordered[:, :1]
    return torch.zeros_like(probs, dtype=torch.bool).scatter(-1, order, keep)


def record_support(
    logps: Tensor, support: Tensor | None, rows: Tensor
) -> tuple[Tensor, list[bytes]]:
    """Records the support of the rows that need it.

    Args:
        logps: (B, V) as `sample_tokens` returns them; tokens with -inf are not in the support.
        support: (B, V) as `sample_tokens` returns it.
        rows: (B,) bool, which rows need it.

    Returns:
        Log-probabilities (B, V), renormalized over the support in these rows; and for each row the
        packed token ids of the support, b"" in all other rows.
    """
    left = logps.isfinite() if support is None else support & logps.isfinite()
    logps = torch.where(rows[:, None] & ~left, -torch.inf, logps)
    logps = torch.where(rows[:, None], logps.log_softmax(-1), logps)
    left = left & rows[:, None]
    ids = left.nonzero()[:, 1].int().cpu().numpy()
    ends = left.sum(1).cumsum(0).tolist()
    return logps, [ids[start:end].tobytes() for start, end in zip([0, *ends], ends)]
