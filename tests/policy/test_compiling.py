"""Compiled layers compute what others do, once for all shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from seeing import FAMILIES, SEEING, drawings
from tiny import SCRATCH, grpo, model_folder, problems, trainer
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import MambaConfig

from slm_math.data.rows import Row
from slm_math.losses.objective import Objective
from slm_math.policy.batches import collate
from slm_math.policy.caches import new_cache
from slm_math.policy.config import Lora, Policy
from slm_math.policy.forward import next_logits
from slm_math.policy.loaded import LoadedPolicy

pytestmark = pytest.mark.timeout(1200)  # compilers take their time on a busy machine


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
    own = loaded.logprobs(batch)[0]
    (own * torch.linspace(-1, 1, len(own))).mean().backward()
    found = torch.cat([p.grad.flatten() for p in loaded.parameters() if p.grad is not None])
    loaded.model.zero_grad()
    return own.detach(), reference, found


def pair(**options: Any) -> tuple[LoadedPolicy, LoadedPolicy]:
    """A policy with compiled layers, and the same without."""
    made = []
    settings: dict[str, Any] = {"scratch": SCRATCH} | options
    for compiled in (True, False):
        policy = Policy(**settings, compile=compiled)
        made.append(policy.load())
        policy.keep_reference(made[-1])
    return made[0], made[1]


def compare(compiled: LoadedPolicy, plain: LoadedPolicy, seeds: int = 2) -> None:
    for seed in range(seeds):
        got, want = computed(compiled, ragged(seed)), computed(plain, ragged(seed))
        torch.testing.assert_close(got[0], want[0], atol=2e-5, rtol=0)
        torch.testing.assert_close(got[1], want[1], atol=2e-5, rtol=0)
        assert (got[2] - want[2]).norm() < 1e-4 * want[2].norm()


@pytest.mark.slow
def test_log_probabilities_are_equal_and_names_stay() -> None:
    compiled, plain = pair()
    batch = collate(ragged(0), reading=compiled.reading)
    got, want = (each.logprobs(batch, reference=True)[0] for each in (compiled, plain))
    torch.testing.assert_close(got, want, atol=2e-5, rtol=0)
    assert counters["stats"]["unique_graphs"] == 2  # before and after attention
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()


@pytest.mark.slow
def test_layers_are_compiled_once_for_all_shapes() -> None:
    compiled, plain = pair()
    compare(compiled, plain)
    assert counters["stats"]["unique_graphs"] == 4  # with gradients and without
    compare(compiled, plain, seeds=8)
    assert counters["stats"]["unique_graphs"] == 4


@pytest.mark.slow
def test_eager_attention_is_compiled_with_the_layer(tmp_path: Path) -> None:
    compiled, plain = pair(scratch=None, path=str(model_folder(tmp_path)), attention="eager")
    assert not compiled.reading.packs
    compare(compiled, plain)
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES[:4])
def test_models_with_eyes_are_compiled(family: Any, tmp_path: Path) -> None:
    image = drawings(tmp_path)[0]
    compiled, plain = pair(scratch=replace(SEEING, vision=family))
    assert compiled.sight is not None
    ids = (9, compiled.sight.placeholder_id, *range(20, 40))
    weights = (0.0,) * 8 + (1.0,) * 14
    rows = [Row(ids[:end], weights[:end], images=(image,)) for end in (12, 17, 22)]
    got, want = computed(compiled, rows), computed(plain, rows)
    torch.testing.assert_close(got[0], want[0], atol=2e-5, rtol=0)
    assert (got[2] - want[2]).norm() < 1e-4 * want[2].norm()
    assert counters["stats"]["unique_graphs"] >= 4


@pytest.mark.slow
def test_training_compiles_nothing_after_its_first_steps(tmp_path: Path) -> None:
    graphs = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
            graphs.append(counters["stats"]["unique_graphs"])

    module = grpo(Policy(scratch=SCRATCH, compile=True), objective=Objective(beta=0.1))
    run = trainer(tmp_path, max_epochs=8, callbacks=[Watch()])
    run.fit(module, problems())
    assert len(graphs) == 32
    assert graphs[0] >= 4
    assert graphs[-1] == graphs[1]
    assert not any("_orig_mod" in name for name in module.state_dict())


def test_decoding_is_not_compiled() -> None:
    compiled, plain = (Policy(scratch=SCRATCH, compile=each).load() for each in (True, False))
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    both = []
    for model in (compiled.model.eval(), plain.model.eval()):
        cache = new_cache(model)
        with torch.no_grad():
            next_logits(model, ids, torch.tensor([3, 3]), cache)
            both.append(next_logits(model, ids[:, :1], torch.tensor([4, 4]), cache))
    assert torch.equal(*both)
    assert not counters["stats"]


def test_without_a_compiler_the_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ValueError, match=r"needs a C\+\+ compiler.*no-such-compiler.*compile false"
    ):
        Policy(scratch=SCRATCH, compile=True)


@pytest.mark.parametrize("option", [{"lora": Lora(r=2)}, {"gradient_checkpointing": True}])
def test_what_was_never_compiled_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="compile is for the training of all weights"):
        Policy(scratch=SCRATCH, compile=True, **option)


def test_layers_that_transformers_cannot_compile_are_refused(tmp_path: Path) -> None:
    MambaConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"cannot compile the layers.*mamba"):
        Policy(str(tmp_path), compile=True).load()
