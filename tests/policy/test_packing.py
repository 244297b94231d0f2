"""Packed rows: what the network computes of a row is what it computes of the row alone, also where
rows share their first tokens, in values and in gradients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seeing import FAMILIES, drawings, model_of
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen2 import modeling_qwen2

from slm_math.data.rows import Row
from slm_math.policy.architectures import packs, reading_of, settle_packing
from slm_math.policy.batches import Reading, collate, micro_batches
from slm_math.policy.forward import hidden_states
from slm_math.policy.loaded import batch_logprobs, loss_states
from slm_math.policy.packing import Sequences, pack
from slm_math.types import Image

VOCABULARY = 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
HALF = ["sliding_attention", "full_attention"]
MODELS: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "llama": {},
    "gemma3_text": {"head_dim": 8, "sliding_window": 7, "layer_types": HALF},
    "mistral": {"sliding_window": 9},
    "smollm3": {},
    "gpt_neox": {},
}


def model(kind: str, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **MODELS[kind]))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    return made.to(dtype).eval()


def grouped(groups: int = 3, size: int = 4, seed: int = 0) -> list[Row]:
    """Groups of rows with a prompt in common, ragged; a long system prompt in front of all; some
    rows are equal, or the beginning of another.
    """
    draw = np.random.default_rng(seed)
    system = draw.integers(3, VOCABULARY, 18)
    rows = []
    for group in range(groups):
        prompt = [*system, *draw.integers(3, VOCABULARY, 5 + 9 * group)]
        replies = [draw.integers(3, VOCABULARY, 1 + 7 * n).tolist() for n in range(size)]
        replies += [replies[-1], replies[-1][:-3]]
        rows += [
            Row((*map(int, prompt), *reply), (0.0,) * len(prompt) + (1.0,) * len(reply))
            for reply in replies
        ]
    return rows


def logprobs(model: Any, rows: list[Row], reading: Reading) -> Tensor:
    """Of the loss tokens of all rows in one batch."""
    batch = collate(rows, reading=reading)
    return batch_logprobs(model, batch, loss_states(model, batch))[0]


def gradients(model: Any, values: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, len(values), dtype=values.dtype)
    found = torch.autograd.grad((weights * values).sum(), list(model.parameters()))
    return torch.cat([each.flatten() for each in found])


def differences(kind: str) -> tuple[float, float]:
    """Of packed rows from each row alone, in 64 bits: the largest of log-probabilities in nats, and
    of the gradient of all weights relative to its norm.
    """
    network, rows = model(kind), grouped()
    assert packs(network)
    together = logprobs(network, rows, Reading(packs=True))
    alone = torch.cat([logprobs(network, [row], Reading()) for row in rows])
    got, want = gradients(network, together), gradients(network, alone)
    gap = (together - alone).abs().max().item()
    return gap, (got - want).norm().item() / want.norm().item()


@pytest.mark.parametrize("kind", MODELS)
def test_packed_rows_get_what_each_gets_alone(kind: str) -> None:
    value, gradient = differences(kind)
    assert value < 1e-5
    assert gradient < 1e-6


def test_packed_rows_are_exact_in_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers computes norms and angles in 32 bits whatever the weights have."""

    def norm(self: Any, states: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(states, states.shape[-1:], self.weight, 1e-6)

    def angles(self: Any, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        half = positions[..., None].double() * self.inv_freq.double()
        return torch.cat((half, half), -1).cos(), torch.cat((half, half), -1).sin()

    monkeypatch.setattr(modeling_qwen2.Qwen2RMSNorm, "forward", norm)
    monkeypatch.setattr(modeling_qwen2.Qwen2RotaryEmbedding, "forward", angles)
    value, gradient = differences("qwen2")
    assert value < 1e-12
    assert gradient < 1e-12


def test_packed_rows_in_32_bits_are_those_of_the_padded_ones() -> None:
    network, rows = model("qwen2", torch.float32), grouped()
    packed, padded = (logprobs(network, rows, Reading(packs=on)) for on in (True, False))
    assert (packed - padded).abs().max().item() < 2e-5
    got, want = gradients(network, packed), gradients(network, padded)
    assert (got - want).norm().item() <= 2e-6 * want.norm().item()


def test_shared_beginnings_are_read_once() -> None:
    rows = grouped()
    batch = collate(rows, reading=Reading(packs=True))
    distinct = {row.ids[:end] for row in rows for end in range(1, len(row.ids) + 1)}
    # no more than the distinct beginnings, and what is too short to be shared
    assert len(distinct) <= batch.positions < len(distinct) + 16 * len(rows)
    assert batch.positions < 0.6 * batch.filled
    assert batch.filled == sum(len(row.ids) for row in rows)


def test_gradient_checkpointing_recomputes_the_same() -> None:
    network, rows = model("qwen2"), grouped()
    want = gradients(network, logprobs(network, rows, Reading(packs=True)))
    network.train()
    network.gradient_checkpointing_enable({"use_reentrant": False})
    assert torch.equal(gradients(network, logprobs(network, rows, Reading(packs=True))), want)


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_with_images_get_what_each_gets_alone(family: str, tmp_path: Path) -> None:
    network, chat = model_of(family)
    mark, draw = chat.sight.placeholder_id, np.random.default_rng(1)
    ordinary = [id for id in range(5, 60) if id not in chat.sight.banned]

    def text(length: int) -> list[int]:
        return draw.choice(ordinary, length).tolist()

    def row(prompt: list[int], images: list[Image], reply: int) -> Row:
        ids = (*prompt, *text(reply))
        return Row(ids, (0.0,) * len(prompt) + (1.0,) * reply, images=tuple(images))

    one, other, third, _ = drawings(tmp_path)
    both, single, none = [*text(3), mark, *text(20), mark], [mark, *text(4)], text(20)
    rows = [row(both, [one, other], n) for n in (3, 9)]
    rows += [row(both, [one, third], n) for n in (2, 5)]  # the same ids, other images
    rows += [row(single, [other], 6), row(none, [], 3), row(none, [], 8)]
    reading = reading_of(network)
    assert reading.packs
    with torch.no_grad():
        together = logprobs(network, rows, reading)
        alone = torch.cat([logprobs(network, [each], Reading()) for each in rows])
    assert (together - alone).abs().max().item() < 5e-5


def test_packed_rows_with_images_are_refused_by_a_model_of_text() -> None:
    with pytest.raises(ValueError, match="images"):
        collate([Row((2, 3), (0, 1), images=(Image("one.png"),))], reading=Reading(packs=True))


def test_model_that_keeps_a_state_reads_padded_rows() -> None:
    config = AutoConfig.for_model("mamba", vocab_size=61, hidden_size=16, num_hidden_layers=1)
    assert not packs(AutoModelForCausalLM.from_config(config))
    eager = model("qwen2")
    eager.set_attn_implementation("eager")
    assert not packs(eager)


@pytest.mark.parametrize("exact", [True, False])
def test_model_with_attention_of_its_own_is_found_out(exact: bool) -> None:
    own = AutoModelForCausalLM.from_config(AutoConfig.for_model("nemotron", **SIZES)).eval()
    ordinary = model("qwen2", torch.float32)
    assert packs(own)
    for network in (own, ordinary):
        settle_packing(network, exact)
    assert not packs(own)
    assert packs(ordinary)


def test_a_row_without_a_token_is_refused() -> None:
    ids = [np.array([1, 2]), np.array([], dtype=np.int64)]
    positions = [np.arange(len(each)) for each in ids]
    with pytest.raises(ValueError, match="row 1 has no token"):
        pack(Sequences(ids, positions, ((), ())))


def test_attention_that_knows_no_packing_is_an_error() -> None:
    network = model("qwen2")
    network.set_attn_implementation("eager")
    ids = np.arange(3, 9)
    sequences = Sequences([ids], [np.arange(6)], [()])
    with pytest.raises(ValueError, match="0 of 2 layers"):
        hidden_states(network, pack(sequences))


@pytest.mark.parametrize("tokens", [1, 40, 100, 100000])
def test_packed_micro_batches_hold_every_row_once_within_the_budget(tokens: int) -> None:
    rows = [*grouped(), *(Row(row.ids[9:], row.mask[9:], role="verifier") for row in grouped(2))]
    reading = Reading(packs=True)
    chunks = micro_batches(rows, tokens, reading)
    assert sorted(n for chunk in chunks for n in chunk) == list(range(len(rows)))
    for chunk in chunks:
        batch = collate([rows[n] for n in chunk], reading=reading)
        assert len(chunk) == 1 or batch.positions <= tokens
    first = max(len(rows[n].ids) for n in chunks[0])
    assert first == max(len(row.ids) for row in rows if row.role == "solver")
