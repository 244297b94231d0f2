"""The gradient of a language-model head: the bits of a linear layer, and no third matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import SCRATCH
from torch.profiler import profile

from slm_math.policy import forward
from slm_math.policy.heads import frugal


def gradients(product: Any, states: torch.Tensor, head: torch.nn.Linear) -> tuple[Any, ...]:
    logits = product(states)
    direction = torch.linspace(-1, 1, logits.numel()).view_as(logits).to(logits.dtype)
    return torch.autograd.grad(logits, (states, head.weight), direction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 16), (1, 40, 16)], ids=str)
def test_gradients_are_those_of_a_linear_layer(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 300, bias=False, dtype=dtype)
    states = torch.randn(shape, dtype=dtype, requires_grad=True)
    product = frugal(head)
    assert product is not None
    assert torch.equal(product(states), head(states))
    for ours, theirs in zip(gradients(product, states, head), gradients(head, states, head)):
        assert torch.equal(ours, theirs)


def test_autocast_casts_as_it_does_for_a_linear_layer() -> None:
    head, states = torch.nn.Linear(16, 300, bias=False), torch.randn(5, 16, requires_grad=True)
    product = frugal(head)
    assert product is not None
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = gradients(product, states, head), gradients(head, states, head)
    for one, other in zip(ours, theirs):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


@pytest.mark.parametrize("ours", [True, False])
def test_gradients_of_tied_embeddings_are_summed_in_place(
    ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of two chunks of the head, and of the embeddings; torch by itself makes new tensors."""
    if not ours:
        monkeypatch.setattr(forward, "frugal", lambda head: None)
    model = SCRATCH.model(SCRATCH.tokenizer())
    states = forward.hidden_states(model, forward.Inputs.of_rows(torch.tensor([[5, 6, 7, 8]])))[0]
    head = forward.language_head(model)
    loss = sum(head(part).logsumexp(-1).sum() for part in states.split(2))
    with profile(record_shapes=True) as profiled:
        loss.backward()
    shape = list(model.lm_head.weight.shape)
    sums = {"aten::add": 0, "aten::add_": 0}  # new tensors, and the first one
    for event in profiled.events():
        if event.name in sums and event.input_shapes[0] == shape:
            sums[event.name] += 1
    assert sums == {"aten::add": int(not ours), "aten::add_": 1 + int(ours)}


@pytest.mark.parametrize(
    "head",
    [torch.nn.Linear(4, 9), torch.nn.Linear(4, 9, bias=False).requires_grad_(False)],
    ids=["bias", "frozen"],
)
def test_other_heads_stay_as_they_are(head: torch.nn.Linear) -> None:
    assert frugal(head) is None
