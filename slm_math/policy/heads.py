"""The product of hidden states with a language-model head, the largest matrix of a small model, and
its gradient.

Where a matrix has several gradients in a backward pass (that of tied embeddings, or of a head that
computes in chunks), autograd adds the next one into the first if that is a tensor of its own. The
gradient that torch makes of a linear layer is a view, so that sums are new tensors: three of the
size of the matrix are there at once in place of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    """states (M, H), weight (V, H) -> (M, V), with the bits of a linear layer."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(states, weight)
        return nn.functional.linear(states, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        states, weight = ctx.saved_tensors
        of_states, of_weight = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            gradient @ weight if of_states else None,
            rows.t() @ states.flatten(0, -2) if of_weight else None,
        )


def frugal(head: Any) -> Callable[[Tensor], Tensor] | None:
    """The forward pass of a head that is a plain linear layer and learns; None for others."""
    if type(head) is not nn.Linear or head.bias is not None or not head.weight.requires_grad:
        return None

    def forward(states: Tensor) -> Tensor:
        if torch.is_autocast_enabled(states.device.type):
            return nn.functional.linear(states, head.weight)  # which casts both
        return _Product.apply(states, head.weight)

    return forward
