"""Triton kernels for log-probabilities: one pass over a chunk of logits, and one for its gradient.

Axes: m tokens, V tokens of the vocabulary. z = logits / temperature, p = softmax(z), H its entropy.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # logits that a program has at once
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def _forward(
    logits,
    targets,
    temperature,
    logps,
    sums,
    entropies,
    found,
    V: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token: log p of the target, log sum exp z, entropy and where z is largest, by a softmax
    whose maximum so far is corrected (Milakov & Gimelshein 2018, "Online normalizer calculation for
    softmax").
    """
    row = tl.program_id(0).to(tl.int64)
    own = logits + row * V
    scale = tl.load(temperature + row)
    # sums of exp(z - top), and of exp(z - top) (z - top)
    top, total, weighted, place = -1e30, 0.0, 0.0, 0
    for start in range(0, V, BLOCK):
        index = start + tl.arange(0, BLOCK)
        inside = index < V
        z = tl.load(own + index, mask=inside, other=-1e30).to(tl.float32) / scale
        # NaN stays, so that training sees that something is wrong
        z = tl.where(inside, tl.maximum(z, -1e30, propagate_nan=tl.PropagateNan.ALL), -1e30)
        best = tl.max(z, 0)
        place = tl.where(best > top, start + tl.argmax(z, 0), place)
        most = tl.maximum(top, best)
        shrunk, e = tl.exp(top - most), tl.where(inside, tl.exp(z - most), 0.0)
        weighted = shrunk * (weighted + (top - most) * total) + tl.sum(e * (z - most), 0)
        total = shrunk * total + tl.sum(e, 0)
        top = most
    target = tl.load(targets + row)
    whole = top + tl.log(total)
    tl.store(logps + row, tl.load(own + target).to(tl.float32) / scale - whole)
    tl.store(sums + row, whole)
    tl.store(entropies + row, tl.log(total) - weighted / total)
    tl.store(found + row, place == target)


@triton.jit
def _backward(
    logits,
    made,
    targets,
    temperature,
    sums,
    entropies,
    slopes,
    entropy_slopes,
    V: tl.constexpr,
    BLOCK: tl.constexpr,
    ENTROPY: tl.constexpr,
):
    """Some logits of one token: slope (1_t - p) - entropy slope p (log p + H), by temperature."""
    row = tl.program_id(0).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = index < V
    scale = tl.load(temperature + row)
    z = tl.load(logits + row * V + index, mask=inside, other=-1e30).to(tl.float32) / scale
    z = tl.maximum(z, -1e30, propagate_nan=tl.PropagateNan.ALL)
    logp = z - tl.load(sums + row)
    p = tl.exp(logp)
    slope = tl.load(slopes + row) / scale
    gradient = tl.where(index == tl.load(targets + row), slope, 0.0) - slope * p
    if ENTROPY:
        slope = tl.load(entropy_slopes + row) / scale
        gradient -= slope * p * (logp + tl.load(entropies + row))
    tl.store(made + row * V + index, gradient.to(made.dtype.element_ty), mask=inside)


def applies(logits: Tensor, outside: Tensor | None) -> bool:
    """Whether the kernels can do it: all tokens can be sampled, and logits of a kind that they
    know are on a GPU, or Triton's interpreter runs.
    """
    somewhere = logits.is_cuda or triton.knobs.runtime.interpret
    return somewhere and outside is None and logits.dtype in DTYPES and logits.is_contiguous()


class KernelLogProbs(torch.autograd.Function):
    """What `logprobs._LogProbs` computes, with the gradient of the entropy if `gradient` is set.
    Logits stand in one array of their own type, which the gradient takes if it may (`once`).
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        logits: Tensor,
        given: tuple[Tensor, Tensor],
        gradient: bool,
        once: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        targets, temperature = given
        tokens, size = logits.shape
        temperature = temperature.float().contiguous()
        targets = targets.contiguous()
        logps, sums, entropies = logits.new_empty(3, tokens, dtype=torch.float32).unbind()
        found = torch.empty_like(targets, dtype=torch.bool)
        if tokens:
            made = {"logps": logps, "sums": sums, "entropies": entropies, "found": found}
            _forward[(tokens,)](  # type: ignore[index]
                logits, targets, temperature, **made, V=size, BLOCK=BLOCK
            )
        ctx.save_for_backward(logits, targets, temperature, sums, entropies)
        ctx.gradient, ctx.once = gradient, once
        ctx.mark_non_differentiable(found)
        return logps, entropies, found

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, slope: Tensor, entropy_slope: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        logits, targets, temperature, sums, entropies = ctx.saved_tensors
        made = logits if ctx.once else torch.empty_like(logits)
        tokens, size = logits.shape
        if tokens:
            _backward[(tokens, triton.cdiv(size, BLOCK))](  # type: ignore[index]
                logits,
                made,
                targets=targets,
                temperature=temperature,
                sums=sums,
                entropies=entropies,
                slopes=slope.float().contiguous(),
                entropy_slopes=entropy_slope.float().contiguous(),
                V=size,
                BLOCK=BLOCK,
                ENTROPY=ctx.gradient,
            )
        return made, None, None, None
