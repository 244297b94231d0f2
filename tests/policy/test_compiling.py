"""Compiled layers compute what others do, once for all shapes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seeing import FAMILIES, drawings, model_of
from tiny import SCRATCH, grpo, problems, trainer
from torch import Tensor
from torch._dynamo.utils import counters

from slm_math.data.rows import Row
from slm_math.policy.batches import collate
from slm_math.policy.config import Lora, Policy
from slm_math.policy.loaded import LoadedPolicy

FRESH = {"lora": Lora(r=2, dropout=0.3), "gradient_checkpointing": True}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def ragged(seed: int) -> list[Row]:
    """Two groups of rows, each with a prompt in common."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(2):
        prompt = draw.integers(5, 200, int(draw.integers(8, 30))).tolist()
        for length in draw.integers(1, 40, 3):
            reply = draw.integers(5, 200, length).tolist()
            rows.append(Row((*prompt, *reply), (0.0,) * len(prompt) + (1.0,) * length))
    return rows


def computed(loaded: LoadedPolicy, rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """The log-probabilities of the policy and of its reference, and the gradient."""
    batch = collate(rows, reading=loaded.reading)
    reference = loaded.logprobs(batch, reference=True)[0]
    torch.manual_seed(1)  # of dropout
    own = loaded.logprobs(batch)[0]
    (own * torch.linspace(-1, 1, len(own))).mean().backward()
    found = torch.cat([p.grad.flatten() for p in loaded.parameters() if p.grad is not None])
    loaded.model.zero_grad()
    return own.detach(), reference, found


def pair(**options: Any) -> tuple[LoadedPolicy, LoadedPolicy]:
    """A policy with compiled layers, and the same without."""
    made = []
    for compiled in (True, False):
        policy = Policy(**({"scratch": SCRATCH} | options), compile=compiled)
        made.append(policy.load())
        if made[-1].adapters:  # that do something
            torch.manual_seed(2)
            with torch.no_grad():
                for weight in made[-1].parameters():
                    weight.add_(0.02 * torch.randn_like(weight))
        policy.keep_reference(made[-1])
    return made[0], made[1]


def compare(compiled: LoadedPolicy, plain: LoadedPolicy, seeds: int = 2) -> None:
    for seed in range(seeds):
        got, want = computed(compiled, ragged(seed)), computed(plain, ragged(seed))
        torch.testing.assert_close(got[0], want[0], atol=2e-5, rtol=0)
        torch.testing.assert_close(got[1], want[1], atol=2e-5, rtol=0)
        assert (got[2] - want[2]).norm() < 1e-4 * want[2].norm()


def test_log_probabilities_and_gradients_are_equal_and_names_stay() -> None:
    compiled, plain = pair()
    assert compiled.reading.packs
    compare(compiled, plain)
    assert counters["stats"]["unique_graphs"] == 4  # around attention, with gradients and without
    compare(compiled, plain, seeds=4)
    assert counters["stats"]["unique_graphs"] == 4
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
