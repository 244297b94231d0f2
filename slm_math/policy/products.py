"""Products of a few states with many weights, on CPUs with MKL.

With 4 to 15 rows MKL first writes the weights to memory again in an order of its own, which takes
longer than the product. It does not with slices of the weights that fit into a core's cache. Sums
are taken in another order then, so that the last bits differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLICE = 1 << 16  # weights
LEAST = 1 << 18  # weights of a layer that is sliced
FEW = range(4, 16)  # rows
WIDE = 1 << 13  # outputs of a layer, a head, that is sliced with more rows, too
SOME = range(4, 65)


def product(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a linear layer with weights (out, in) makes of states (B, in): (B, out)."""
    out, width = weight.shape
    rows = len(states)
    sliced = rows in (SOME if out >= WIDE else FEW) and weight.numel() >= LEAST
    if not sliced or bias is not None or not _plain(states, weight):
        return nn.functional.linear(states, weight, bias)
    size = max(SLICE // width, 1)
    whole = out // size * size
    slices = weight[:whole].view(-1, size, width).transpose(1, 2)
    made = torch.matmul(states, slices).transpose(0, 1).reshape(rows, whole)
    return made if whole == out else torch.cat([made, states @ weight[whole:].T], 1)


def _plain(states: Tensor, weight: Tensor) -> bool:
    """Whether MKL computes the product, in 32 bits."""
    return (
        states.dtype == weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and torch.backends.mkl.is_available()
        and not torch.is_autocast_enabled("cpu")
    )
