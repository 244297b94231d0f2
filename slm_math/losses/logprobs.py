"""Log-probabilities of given tokens without ever holding the logits of a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Support = tuple[Tensor, Tensor]
Wanted = Literal["nothing", "value", "gradient"]


def token_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: Tensor,
    entropy: Wanted = "nothing",
    support: Support | None = None,
    chunk: int = 2048,
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (M, H), targets (M,), temperature (M,) -> log-probability, entropy (nats), argmax-hit:
    (M,) each.

    At least fp32. `head` maps (m, H) to logits (m, V), which exist for `chunk` tokens at a time,
    also in the backward pass, which recomputes them. Entropy is 0 when nothing is wanted of it, and
    carries a gradient only when that is wanted.

    `support` = (starts (M + 1,), ids (K,)) lists the tokens that could be sampled at position m,
    ids[starts[m] : starts[m + 1]], under top-p, top-k or min-p; none listed means all.
    Probabilities are then those of the distribution that was really sampled from, softmax over
    these tokens: over the whole vocabulary the ratio would be off by what they hold.
    """

    def piece(
        hidden: Tensor, targets: Tensor, temperature: Tensor, support: Support | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = scaled_logits(head(hidden), temperature)
        outside = None if support is None else outside_of(support, logits)
        if outside is not None:
            logits = logits.masked_fill(outside, -torch.inf)
        logps = torch.log_softmax(logits, dim=-1)
        with torch.set_grad_enabled(entropy == "gradient" and torch.is_grad_enabled()):
            # 0 * inf has no gradient
            finite = logps if outside is None else logps.masked_fill(outside, 0.0)
            entropies = (
                torch.zeros_like(logps[:, 0])
                if entropy == "nothing"
                else -(logps.exp() * finite).sum(-1)
            )
        hits = logits.argmax(-1) == targets
        return logps.gather(-1, targets[:, None]).squeeze(-1), entropies, hits

    logps, entropies, hits = in_chunks(
        piece, (hidden, targets, temperature), support=support, chunk=chunk
    )
    return logps, entropies, hits


def in_chunks(
    piece: Callable[..., tuple[Tensor, ...]],
    columns: Sequence[Tensor],
    support: Support | None,
    chunk: int,
) -> list[Tensor]:
    """What `piece` makes of `chunk` tokens of the columns (M, ...) and their support at a time,
    joined; the backward pass computes it again where there are several chunks.
    """
    tokens = len(columns[0])
    parts = []
    for start in range(0, max(tokens, 1), chunk):
        own = None
        if support is not None:
            starts = support[0][start : start + chunk + 1]
            own = starts - starts[0], support[1][starts[0] : starts[-1]]
        arguments = (*(column[start : start + chunk] for column in columns), own)
        recompute = tokens > chunk and torch.is_grad_enabled()
        parts.append(
            checkpoint(piece, *arguments, use_reentrant=False) if recompute else piece(*arguments)
        )
    return [torch.cat(column) for column in zip(*parts)]


def scaled_logits(logits: Tensor, temperature: Tensor) -> Tensor:
    """logits (m, V), temperature (m,) -> (m, V), in at least fp32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature[:, None]


def outside_of(support: Support, logits: Tensor) -> Tensor:
    """(m, V): True for tokens that could not be sampled."""
    sizes = support[0].diff()
    rows = torch.repeat_interleave(torch.arange(len(sizes), device=logits.device), sizes)
    outside = (sizes > 0)[:, None].expand_as(logits).clone()
    outside[rows, support[1]] = False
    return outside
