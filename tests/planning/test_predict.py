"""Rehearsals of updates: what they take, and what changes make of it."""

from dataclasses import replace

import pytest
import torch
from tiny import LORA, SCRATCH
from torch.nn import functional

from slm_math.planning import predict as predicting
from slm_math.planning.advice import changes
from slm_math.planning.devices import Device
from slm_math.planning.network import Sizes
from slm_math.planning.phases import RunPlan
from slm_math.planning.predict import Setup, predict
from slm_math.planning.rehearsal import _Notes
from slm_math.planning.workload import Decoded, Step, Workload, assumed_rows
from slm_math.policy.config import Policy
from slm_math.types import Sampling

DEEP = replace(SCRATCH, layers=6)
SPEEDS = {torch.float32: 1e9, torch.bfloat16: 1e9}
DEVICE = Device("cpu", 1 << 40, SPEEDS, 1e10, 0.0, measured=True)
GPU = replace(DEVICE, name="h100", measured=False)
ROWS = Workload((Step(tuple(assumed_rows(200, 8))),))


@pytest.fixture(autouse=True)
def without_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA takes by itself would hide the rest."""
    monkeypatch.setattr(predicting, "CONTEXT", 0)


def setup_of(policy: Policy, **options: object) -> Setup:
    made = Setup(policy, ("solver",), {}, policy.chat(), 4096, "32-true", "adamw")
    return replace(made, **options)  # type: ignore[arg-type]


def plan_of(policy: Policy, device: Device = GPU, work: Workload = ROWS, **options: object):
    return predict(setup_of(policy, **options), work, device, idle=0)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_two_layers_stand_for_all(
    monkeypatch: pytest.MonkeyPatch, lora: object, checkpointing: bool
) -> None:
    policy = Policy(scratch=DEEP, lora=lora, gradient_checkpointing=checkpointing)  # type: ignore[arg-type]
    some = plan_of(policy)
    for module in (predicting, predicting.network.__globals__):
        if isinstance(module, dict):
            monkeypatch.setitem(module, "LAYERS", 6)
        else:
            monkeypatch.setattr(module, "LAYERS", 6)
    every = plan_of(policy)
    assert some.peak == pytest.approx(every.peak, rel=0.02)
    assert some.flops == pytest.approx(every.flops, rel=0.01)
    assert some.seconds == pytest.approx(every.seconds, rel=0.05)


def test_products_of_matrices_take_six_operations_for_each_weight_and_token() -> None:
    made = plan_of(Policy(scratch=DEEP))
    head = made.sizes.vocabulary * made.sizes.width
    tokens, learned = 1600, 800
    attention = 8 * 6 * (2 + 5) * 2 * 200**2 * made.sizes.width  # of 8 rows in 6 layers
    least = 6 * (tokens * made.sizes.matrices + learned * head)
    assert least <= made.flops - attention <= 1.1 * least


def test_recomputation_takes_less_memory_and_more_operations() -> None:
    plain = plan_of(Policy(scratch=DEEP))
    again = plan_of(Policy(scratch=DEEP, gradient_checkpointing=True))
    assert again.peak < 0.8 * plain.peak
    assert 1.15 < again.flops / plain.flops < 4 / 3


def test_gradients_stay_between_micro_batches() -> None:
    one, several = plan_of(Policy(scratch=DEEP)), plan_of(Policy(scratch=DEEP), tokens=400)
    assert (one.micro_batches, several.micro_batches) == (1, 4)
    assert several.peak < one.peak


def test_replies_take_a_cache_and_logits() -> None:
    sampled = Decoded((20,) * 4, 8, Sampling(max_new_tokens=100), None)
    made = plan_of(Policy(scratch=SCRATCH), work=replace(ROWS, evaluated=(sampled,)))
    phase = next(each for each in made.phases if each.name == "evaluation")
    rest = made.resident.networks + made.resident.moments
    # 32 sequences of 120 tokens at least, whose keys and values have 256 bytes a token
    assert phase.bytes - rest > 32 * 120 * made.sizes.token


@pytest.mark.parametrize("checkpointing", [False, True])
def test_buffers_of_captured_steps_stay_during_updates(checkpointing: bool) -> None:
    sampled = Decoded((20,) * 4, 8, Sampling(max_new_tokens=100), None)
    policy = Policy(scratch=DEEP, gradient_checkpointing=checkpointing)
    work = replace(ROWS, evaluated=(sampled,))
    update = {}
    for device in (GPU, DEVICE):
        for kind in (ROWS, work):
            phases = plan_of(policy, device, kind).phases
            update[device, kind] = next(one.bytes for one in phases if one.name == "update")
    # 32 slots of 128 positions, on a GPU only
    held = 32 * 128 * Sizes.of(setup_of(policy).network()).token
    assert update[GPU, work] - update[GPU, ROWS] == held
    assert update[DEVICE, work] == update[DEVICE, ROWS]


def test_a_plan_that_does_not_fit_says_what_to_change() -> None:
    setup = setup_of(Policy(scratch=DEEP), tokens=16384)
    work = Workload((Step(tuple(assumed_rows(400, 32))),))

    def again(changed: Setup) -> RunPlan:
        return predict(changed, work, small, idle=0)

    whole = predict(setup, work, GPU, idle=0)
    small = replace(GPU, memory=int(0.9 * whole.peak))
    made = changes(setup, whole, small, again)
    assert made[-1].plan.peak <= small.memory
    assert made[0].options.startswith("--model.tokens_per_batch ")
    assert changes(setup, whole, GPU, again) == []


def test_a_heap_has_gaps_on_a_cpu_only() -> None:
    assert plan_of(Policy(scratch=DEEP), DEVICE).peak > plan_of(Policy(scratch=DEEP), GPU).peak


def test_attention_is_counted_forward_and_backward() -> None:
    device = replace(DEVICE, name="cpu")
    heads, tokens, size = 4, 32, 16
    parts = [torch.rand(1, heads, tokens, size, requires_grad=True) for _ in range(3)]
    notes = _Notes(device)
    with notes:
        functional.scaled_dot_product_attention(*parts).sum().backward()
    assert notes.flops == (2 + 5) * 2 * heads * tokens * tokens * size
