"""Closed formulas of what stays in memory, against real models, optimizers and caches."""

import pytest
import torch
from tiny import LORA, SCRATCH

from slm_math.modules.optim import Optim
from slm_math.planning.memory import cache_bytes, resident_bytes, slot_bytes, width
from slm_math.planning.network import Sizes, network
from slm_math.planning.workload import Decoded
from slm_math.policy.caches import RowCache
from slm_math.policy.config import Policy
from slm_math.policy.slots import SlotCache
from slm_math.types import Sampling

ROLES = ("solver",)
FULL, ADAPTER = Policy(scratch=SCRATCH), Policy(scratch=SCRATCH, lora=LORA)


def sizes_of(policy: Policy) -> Sizes:
    return Sizes.of(network(policy, ROLES, {}, sight=None, tokenizer=policy.tokenizer()))


@pytest.mark.parametrize("policy", [FULL, ADAPTER], ids=["full", "lora"])
def test_weights_are_those_of_the_loaded_model(policy: Policy) -> None:
    loaded, sizes = policy.load(ROLES), sizes_of(policy)
    assert sizes.weights == sum(p.numel() for p in loaded.model.parameters())
    assert sizes.trained == sum(p.numel() for p in loaded.parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("policy", [FULL, ADAPTER], ids=["full", "lora"])
def test_moments_are_those_that_an_optimizer_keeps(policy: Policy, kind: str) -> None:
    loaded = policy.load(ROLES)
    for module in loaded.model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.weight.is_embedding = True  # type: ignore[assignment]
    optimizer = Optim(kind=kind).build({"solver": loaded.parameters()})  # type: ignore[arg-type]
    for parameter in loaded.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = [each for own in optimizer.state.values() for each in own.values()]
    real = sum(t.nbytes for t in state if isinstance(t, torch.Tensor) and t.numel() > 1)
    resident = resident_bytes(sizes_of(policy), False, False, kind, "none")
    assert resident.moments == real
    assert resident.gradients == sum(p.nbytes for p in loaded.parameters())


def test_weights_in_16_bits_have_masters_in_32() -> None:
    sizes = sizes_of(ADAPTER)
    resident = resident_bytes(sizes, True, False, "adamw", "base")
    assert (resident.weights, resident.reference) == (2 * sizes.weights + 4 * sizes.trained, 0)


def test_a_reference_of_all_weights_is_a_copy() -> None:
    sizes = sizes_of(FULL)
    assert resident_bytes(sizes, False, False, "adamw", "model").reference == 4 * sizes.weights


def test_quantized_matrices_take_half_a_byte_and_their_constants() -> None:
    sizes = sizes_of(ADAPTER)
    # an 8-bit scale for 64 weights, and a 32-bit one for 256 of these
    matrices = sizes.matrices * (0.5 + 1 / 64 + 4 / (64 * 256))
    rest = 4 * (sizes.weights - sizes.matrices)
    resident = resident_bytes(sizes, False, True, "adamw", "base")
    assert resident.weights == pytest.approx(matrices + rest, rel=1e-3)


def test_a_token_has_keys_and_values_in_each_layer() -> None:
    # 2 layers, 2 of 4 heads for keys, 32 / 4 numbers each, 4 bytes
    assert sizes_of(FULL).token == 2 * 2 * 2 * 8 * 4


@pytest.mark.parametrize(("prompt", "length"), [(7, 9), (100, 180), (40, 300)])
def test_buffers_grow_as_those_of_the_cache(prompt: int, length: int) -> None:
    cache = RowCache(1)
    cache.update(torch.zeros(3, 2, prompt, 4), torch.zeros(3, 2, prompt, 4), 0)
    for _ in range(length - prompt):
        cache.update(torch.zeros(3, 2, 1, 4), torch.zeros(3, 2, 1, 4), 0)
    assert width(prompt, length) == cache.layers[0]._buffers[0].shape[-2]  # type: ignore[attr-defined]


def test_requests_beyond_the_slots_stay_as_beginnings() -> None:
    decoded = Decoded((10,) * 6, 2, Sampling(max_new_tokens=20), slots=4)
    running, ended = 4 * width(10, 30) * 8, 8 * 30 * 8
    assert cache_bytes(decoded, 8, memory=1 << 30, context=512) == running + ended


def test_buffers_of_captured_steps_are_those_of_the_slots() -> None:
    decoded = Decoded((100, 140), 2, Sampling(max_new_tokens=60), slots=None)
    loaded = Policy(scratch=SCRATCH).load(ROLES)
    cache = SlotCache(loaded.model, lambda run: run)
    like = RowCache(2)
    states = torch.zeros(1, 2, 1, 8)
    for layer in range(2):
        like.update(states, states, layer)
    cache.reserve(like, rows=4, width=200)
    own = sum(buffer.nbytes for layer in cache.layers for buffer in layer.buffers)
    token = sizes_of(FULL).token
    assert slot_bytes(decoded, token, memory=1 << 30, context=512) == own
    assert slot_bytes(decoded, token, memory=8 * own - 1, context=512) == 0
