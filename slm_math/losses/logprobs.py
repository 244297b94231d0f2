"""Log-probabilities of given tokens without ever holding the logits of a whole batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def token_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: Tensor,
    entropy: bool = True,
    chunk: int = 2048,
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (M, H), targets (M,), temperature (M,) -> log-probability, entropy (nats), argmax-hit, each (M,), fp32.

    `head` maps (m, H) to logits (m, V). Logits exist for `chunk` tokens at a time, also in the backward pass, which
    recomputes them. Entropy carries no gradient here; it is 0 when not asked for.
    """
    parts = []
    for start in range(0, max(len(targets), 1), chunk):
        piece = slice(start, start + chunk)
        arguments = (head, hidden[piece], targets[piece], temperature[piece], entropy)
        recompute = len(targets) > chunk and torch.is_grad_enabled()
        parts.append(checkpoint(_piece, *arguments, use_reentrant=False) if recompute else _piece(*arguments))
    logps, entropies, hits = (torch.cat(column) for column in zip(*parts))
    return logps, entropies, hits


def _piece(
    head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, temperature: Tensor, entropy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    logits = head(hidden).float() / temperature[:, None]
    logps = torch.log_softmax(logits, dim=-1)
    with torch.no_grad():
        entropies = torch.special.entr(logps.exp()).sum(-1) if entropy else torch.zeros_like(logps[:, 0])
        hits = logits.argmax(-1) == targets
    return logps.gather(-1, targets[:, None]).squeeze(-1), entropies, hits
