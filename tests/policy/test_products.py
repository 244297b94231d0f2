"""Products of a few states with many weights, against those in 64 bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slm_math.policy import products
from slm_math.policy.products import LEAST, SOME, product


def layer(width: int, out: int, bias: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, out, bias=bias).requires_grad_(False)


def made(states: Tensor, linear: nn.Linear) -> Tensor:
    return product(states, linear.weight, linear.bias)


@pytest.mark.parametrize("rows", [1, 3, 4, 9, 15, 16])
@pytest.mark.parametrize(
    ("width", "out"),
    [(512, 512), (512, 515), (1536, 171), (64, 9001)],  # also outputs that no slices add up to
)
def test_a_product_is_that_of_the_weights(width: int, out: int, rows: int) -> None:
    linear, states = layer(width, out), torch.randn(rows, width)
    want = states.double() @ linear.weight.double().T
    torch.testing.assert_close(made(states, linear).double(), want, rtol=0, atol=2e-5)


def test_a_bias_is_added() -> None:
    linear, states = layer(512, LEAST // 512, bias=True), torch.randn(5, 512)
    torch.testing.assert_close(made(states, linear), linear(states), rtol=0, atol=2e-5)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="needs MKL")
def test_weights_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def watched(states: Tensor, slices: Tensor) -> Tensor:
        assert slices.untyped_storage().data_ptr() == linear.weight.untyped_storage().data_ptr()
        shapes.append(tuple(slices.shape))
        return states @ slices

    monkeypatch.setattr(products.torch, "matmul", watched)
    linear = layer(512, 1024)
    for rows in (3, 4, 15, 16, SOME.stop - 1):
        made(torch.randn(rows, 512), linear)
    assert shapes == [(8, 512, 128)] * 2
    linear = layer(64, 1 << 13)  # as wide as a head
    for rows in (3, 16, SOME.stop - 1, SOME.stop):
        made(torch.randn(rows, 64), linear)
    assert shapes[2:] == [(8, 64, 1024)] * 2
