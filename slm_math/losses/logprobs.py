"""Log-probabilities of given tokens without ever holding the logits of a whole batch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count, repeat
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Support = tuple[Tensor, Tensor]
Wanted = Literal["nothing", "value", "gradient"]
LOGITS = 1 << 25  # that exist at once, at least; 128 MiB in 32 bits
SHARE = 256  # of a GPU's memory, for the logits that exist at once in 32 bits, if that is more


def tokens_at_once(vocabulary: int, device: torch.device) -> int:
    """How many tokens' logits exist at once on a device."""
    logits = LOGITS
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        logits = max(memory // SHARE // 4, logits)
    return max(logits // vocabulary, 1)


def token_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    temperature: Tensor,
    entropy: Wanted = "nothing",
    support: Support | None = None,
    chunk: int = 2048,
    hits: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden (M, H), targets (M,), temperature (M,) -> log-probability, entropy (nats), argmax-hit:
    (M,) each.

    At least fp32. `head` maps (m, H) to logits (m, V), which exist for `chunk` tokens at a time,
    also in the backward pass, which recomputes them: in two arrays at most, three with a gradient
    of the entropy. Entropy is 0 when nothing is wanted of it, and carries a gradient only when
    that is wanted; no token is a hit unless `hits` are wanted.

    `support` = (starts (M + 1,), ids (K,)) lists the tokens that could be sampled at position m,
    ids[starts[m] : starts[m + 1]], under top-p, top-k or min-p; none listed means all.
    `starts` is on the CPU, since to read it there would wait for a GPU.
    Probabilities are then those of the distribution that was really sampled from, softmax over
    these tokens: over the whole vocabulary the ratio would be off by what they hold.
    """
    several, chunks, calls = len(hidden) > chunk, -(-len(hidden) // chunk), count()

    def piece(
        hidden: Tensor, targets: Tensor, temperature: Tensor, support: Support | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits = head(hidden)
        if logits.untyped_storage().data_ptr() == hidden.untyped_storage().data_ptr():
            logits = logits.clone()
        outside = None if support is None else outside_of(support, logits)
        again = next(calls) >= chunks  # by the backward pass, for the gradient alone
        wanted = "nothing" if again and entropy == "value" else entropy
        if _has_kernels(logits):
            from slm_math.losses import kernels

            if kernels.applies(logits, outside):
                return kernels.KernelLogProbs.apply(
                    logits, (targets, temperature), wanted == "gradient", several
                )
        options = wanted, hits and not again, several
        return _LogProbs.apply(logits, (targets, temperature, outside), *options)

    logps, entropies, found = in_chunks(
        piece, (hidden, targets, temperature), support=support, chunk=chunk
    )
    return logps, entropies if entropy == "gradient" else entropies.detach(), found


def _has_kernels(logits: Tensor) -> bool:
    """Whether there may be kernels for the device: Triton is with torch for GPUs, and its
    interpreter tries them without one.
    """
    tried = os.environ.get("TRITON_INTERPRET") == "1"
    return (logits.is_cuda or tried) and importlib.util.find_spec("triton") is not None


class _LogProbs(torch.autograd.Function):
    """Logits (m, V), which are overwritten, to log-probabilities, entropies and argmax-hits (m,)
    each; see `token_logprobs`.

    z = logits / temperature and log p = z - logsumexp(z) have the gradients
    d log p_t / dz = 1_t - p and dH / dz = -p (log p + H).

    Args: logits; targets (m,), temperature (m,), outside (m, V) or None; what is wanted of the
    entropy, whether hits are wanted, and whether the backward pass may overwrite what it gets.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        logits: Tensor,
        tokens: tuple[Tensor, Tensor, Tensor | None],
        entropy: Wanted,
        hits: bool,
        once: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        targets, temperature, outside = tokens
        scaled = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scaled.div_(temperature[:, None])
        if outside is not None:
            # not infinite, of which 0 times would be NaN
            scaled.masked_fill_(outside, torch.finfo(scaled.dtype).min / 2)
        if hits:
            found = scaled.argmax(-1) == targets
        else:
            found = torch.zeros_like(targets, dtype=torch.bool)
        logps = scaled.log_softmax(-1)
        del scaled
        own = logps.gather(-1, targets[:, None]).squeeze(-1)
        entropies = torch.zeros_like(own)
        if entropy != "nothing":
            entropies = -torch.linalg.vecdot(logps.exp(), logps)
        ctx.save_for_backward(logps, targets, temperature, entropies)
        ctx.wanted, ctx.once, ctx.dtype = entropy, once, logits.dtype
        ctx.mark_non_differentiable(found)
        return own, entropies, found

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, slope: Tensor, entropy_slope: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        logps, targets, temperature, entropies = ctx.saved_tensors
        slope = slope / temperature
        if ctx.wanted == "gradient":
            factor = entropy_slope / temperature
            made = logps.exp()
            logps = logps if ctx.once else logps.clone()
            made.mul_(logps.add_(entropies[:, None]).mul_(-factor[:, None]).sub_(slope[:, None]))
        else:
            made = logps.exp_() if ctx.once else logps.exp()
            made.mul_(-slope[:, None])
        made.scatter_add_(-1, targets[:, None], slope[:, None])
        return made.to(ctx.dtype), None, None, None, None


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
    supports = _split(support, tokens, chunk)
    for start in range(0, max(tokens, 1), chunk):
        own = next(supports)
        arguments = (*(column[start : start + chunk] for column in columns), own)
        recompute = tokens > chunk and torch.is_grad_enabled()
        parts.append(
            checkpoint(piece, *arguments, use_reentrant=False) if recompute else piece(*arguments)
        )
    return [torch.cat(column) for column in zip(*parts)]


def _split(support: Support | None, tokens: int, chunk: int) -> Iterator[Support | None]:
    """The supports of `chunk` tokens at a time; None forever if there is none."""
    if support is None:
        yield from repeat(None)
    else:
        starts, ids = support
        bounds = starts.tolist()
        if ids.is_cuda:
            starts = starts.pin_memory().to(ids.device, non_blocking=True)
        for start in range(0, max(tokens, 1), chunk):
            first, last = bounds[start], bounds[min(start + chunk, tokens)]
            yield starts[start : start + chunk + 1] - first, ids[first:last]


def scaled_logits(logits: Tensor, temperature: Tensor) -> Tensor:
    """logits (m, V), temperature (m,) -> (m, V), in at least fp32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature[:, None]


def outside_of(support: Support, logits: Tensor) -> Tensor:
    """(m, V): True for tokens that could not be sampled."""
    starts, ids = support
    sizes = starts.diff()
    rows = torch.arange(len(sizes), device=logits.device)
    rows = rows.repeat_interleave(sizes, output_size=len(ids))
    outside = (sizes > 0)[:, None].expand_as(logits).clone()
    outside[rows, ids] = False
    return outside
