"""The kernels compute what torch does; without a GPU Triton's interpreter runs them
(`TRITON_INTERPRET=1`, with triton installed).
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from slm_math.losses.logprobs import token_logprobs

pytest.importorskip("triton")
GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from slm_math.losses import kernels  # noqa: E402

DEVICE = "cuda" if GPU else "cpu"
TOKENS = 9


def problem(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    hidden = torch.randn(TOKENS, 8, generator=generator)
    weight = torch.randn(size, 8, generator=generator)
    targets = torch.randint(size, (TOKENS,), generator=generator)
    temperature = torch.tensor([0.7, 1.0, 1.5] * 3)
    made = hidden.to(DEVICE, dtype), weight.to(DEVICE, dtype)
    return *(each.requires_grad_() for each in made), targets.to(DEVICE), temperature.to(DEVICE)


def computed(problem: Any, entropy: Any, chunk: int) -> list[Tensor]:
    hidden, weight, targets, temperature = problem
    values = token_logprobs(
        hidden, lambda states: states @ weight.T, targets, temperature, entropy, chunk=chunk
    )
    logps, entropies, _ = values
    # ranging over the signs and sizes of slopes
    slopes = torch.linspace(-1, 2, TOKENS, device=DEVICE)
    loss = (slopes * logps).sum()
    if entropy == "gradient":
        loss = loss + (slopes.flip(0) * entropies).sum()
    return [*(each.detach() for each in values), *torch.autograd.grad(loss, (hidden, weight))]


@pytest.mark.parametrize("size", [3, 1000, kernels.BLOCK, 2 * kernels.BLOCK + 5])
@pytest.mark.parametrize("chunk", [4, 100])
@pytest.mark.parametrize("entropy", ["value", "gradient"])
def test_values_and_gradients_are_those_of_float64(size: int, chunk: int, entropy: Any) -> None:
    found = computed(problem(size, torch.float32), entropy, chunk)
    want = computed(
        [
            each.double().detach().requires_grad_(each.requires_grad)
            if each.is_floating_point()
            else each
            for each in problem(size, torch.float32)
        ],
        entropy,
        chunk,
    )
    assert torch.equal(found[2], want[2])
    for own, expected in zip(found, want):
        assert torch.allclose(own.double(), expected.double(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("chunk", [4, 100])
def test_gradients_of_bfloat16_are_as_near_as_those_of_torch(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = problem(1000, torch.bfloat16)
    found = computed(made, "gradient", chunk)
    monkeypatch.setattr(kernels, "applies", lambda logits, outside: False)
    torchs = computed(made, "gradient", chunk)
    assert torch.equal(found[2], torchs[2])
    for own, other in zip(found, torchs):
        scale = other.float().abs().max()
        assert (own.float() - other.float()).abs().max() <= 2**-7 * scale


def test_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = kernels.KernelLogProbs.apply
    monkeypatch.setattr(
        kernels.KernelLogProbs, "apply", lambda *args: asked.append(args) or real(*args)
    )
    computed(problem(1000, torch.float32), "value", chunk=100)
    assert len(asked) == 1
    computed(
        [each.double() if each.is_floating_point() else each for each in problem(3, torch.float32)],
        "value",
        100,
    )
    assert len(asked) == 1


def test_tokens_that_cannot_be_sampled_are_left_out() -> None:
    """A head that lacks tokens gives them -inf."""
    logits = torch.randn(4, 50, device=DEVICE)
    logits[:, 40:] = -torch.inf
    targets, temperature = torch.arange(4, device=DEVICE), torch.ones(4, device=DEVICE)
    logps, entropies, _ = token_logprobs(logits, lambda each: each, targets, temperature, "value")
    want = logits[:, :40].log_softmax(-1)
    assert torch.allclose(logps, want[targets, targets], atol=1e-5)
    assert torch.allclose(entropies, -(want.exp() * want).sum(-1), atol=1e-5)


def test_what_is_no_number_stays_none() -> None:
    logits = torch.randn(3, 50, device=DEVICE)
    logits[1, 7] = torch.nan
    logits.requires_grad_()
    targets, temperature = torch.arange(3, device=DEVICE), torch.ones(3, device=DEVICE)
    logps, _, _ = token_logprobs(logits, lambda each: each * 1, targets, temperature, "value")
    assert logps.isnan().tolist() == [False, True, False]
    logps.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isnan().any(1).tolist() == [False, True, False]
