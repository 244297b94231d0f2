"""Steps of static shapes: what the engine replies with them, and that a GPU could repeat them. Here
a stand-in for CUDA graphs computes each step again, and compares it with the one it captured.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from answering import answer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.policy.slots import SHORTEST, Slots, rounded
from slm_math.types import Reply, Sampling, assistant, user

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
}
CONFIGS: dict[str, Callable[..., AutoConfig]] = {
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "llama": LlamaConfig,
    "gemma3": Gemma3TextConfig,
    "windows": lambda **sizes: Qwen2Config(
        **sizes, use_sliding_window=True, sliding_window=8, max_window_layers=0
    ),
    # frequencies that follow the longest position
    "dynamic": lambda **sizes: LlamaConfig(
        **sizes, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    ),
}
WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique"}


class Operations(TorchDispatchMode):
    """What is computed: operations with shapes and numbers, and with the addresses of the memory
    that was there before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []
        self._made: dict[int, Tensor] = {}  # alive, so that no address is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_flatten((args, kwargs or {}))[0]
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} makes the processor wait"
        before = {each.untyped_storage().data_ptr() for each in given if isinstance(each, Tensor)}
        self.seen.append((str(func), *map(self._described, given)))
        made = func(*args, **(kwargs or {}))
        for each in tree_flatten(made)[0]:
            if isinstance(each, Tensor) and (at := each.untyped_storage().data_ptr()) not in before:
                self._made[at] = each
        return made

    def _described(self, value: object) -> object:
        if not isinstance(value, Tensor):
            return repr(value)
        at = value.untyped_storage().data_ptr()
        return (value.shape, value.stride(), value.dtype, "new" if at in self._made else at)


class StandIn:
    """Captures steps on a CPU."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        want = self._operations(run)

        def replay() -> None:
            self.replayed += 1
            assert self._operations(run) == want

        return replay

    def _operations(self, run: Callable[[], None]) -> list[object]:
        with Operations() as operations:
            run()
        return operations.seen


def model_of(kind: str, chat: ChatFormat) -> Any:
    torch.manual_seed(0)
    size = len(chat.tokenizer)
    return AutoModelForCausalLM.from_config(CONFIGS[kind](vocab_size=size, **SIZES)).eval()


def asked(n: int, temperature: float = 0.0) -> list[Request]:
    """Prompts and replies of many lengths; some prompts are equal, others begin alike."""
    return [
        Request(
            user("Mina has beads. " * (1 + i % 5)),
            Sampling(temperature, max_new_tokens=2 + i * 7 % 23),
            key=(0, i),
        )
        for i in range(n)
    ]


def engines(
    model: Any, chat: ChatFormat, slots: int = 4, **options: Any
) -> tuple[TransformersEngine, TransformersEngine, StandIn]:
    """One that captures its steps, one that does not, and the stand-in of the first."""
    capture = StandIn()
    static = TransformersEngine(model, chat, slots, **options)
    static.captured = Slots(capture, 1 << 30)
    return static, TransformersEngine(model, chat, slots, **options), capture


def assert_equal(found: list[Reply], want: list[Reply]) -> None:
    assert [reply.token_ids for reply in found] == [reply.token_ids for reply in want]
    for own, other in zip(found, want):
        torch.testing.assert_close(
            torch.tensor(own.logprobs), torch.tensor(other.logprobs), rtol=0, atol=2e-6
        )


@pytest.mark.parametrize(
    ("kind", "temperature"), [("qwen2", 0.0), ("qwen2", 1.0), ("qwen3", 0.0), ("llama", 0.0)]
)
def test_replies_are_those_of_other_steps(kind: str, temperature: float, chat: ChatFormat) -> None:
    static, dynamic, capture = engines(model_of(kind, chat), chat)
    requests = asked(13, temperature)  # in four slots, so that rows end and others take their place
    assert_equal(answer(static, requests), answer(dynamic, requests))
    assert capture.replayed == static.steps
    assert capture.captured < static.steps // 2


@pytest.mark.parametrize("kind", ["gemma3", "windows", "dynamic"])
def test_other_architectures_take_other_steps(kind: str, chat: ChatFormat) -> None:
    static, dynamic, capture = engines(model_of(kind, chat), chat)
    assert_equal(answer(static, asked(6)), answer(dynamic, asked(6)))
    assert capture.captured == 0


def test_an_adapted_layer_takes_other_steps(chat: ChatFormat) -> None:
    class Adapted(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) + 1

    model = model_of("llama", chat)
    own = model.model.layers[1].self_attn.q_proj
    own.__class__ = Adapted
    static, dynamic, capture = engines(model, chat)
    assert_equal(answer(static, asked(6)), answer(dynamic, asked(6)))
    assert capture.captured == 0


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_weights_that_change_where_they_are_are_not_captured_again(
    precision: torch.dtype | None, chat: ChatFormat
) -> None:
    model = model_of("qwen2", chat)

    def context() -> Any:
        return torch.autocast("cpu", precision) if precision else nullcontext()

    static, dynamic, capture = engines(model, chat, context=context)
    one = asked(1)
    before, first = answer(static, one), capture.captured
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(0.9)
    for engine in (static, dynamic):
        engine.update(2)
    [found], [want] = answer(static, one), answer(dynamic, one)
    assert found.token_ids == want.token_ids
    assert found.logprobs != before[0].logprobs
    assert capture.captured == first


def test_weights_that_moved_are_captured_again(chat: ChatFormat) -> None:
    model = model_of("qwen2", chat)
    static, dynamic, capture = engines(model, chat)
    answer(static, asked(1))
    first = capture.captured
    for weight in model.parameters():
        weight.data = weight.data * 0.9
    for engine in (static, dynamic):
        engine.update(2)
    assert_equal(answer(static, asked(1)), answer(dynamic, asked(1)))
    assert capture.captured == 2 * first


def test_rows_and_positions_grow_while_others_are_decoded(chat: ChatFormat) -> None:
    static, dynamic, _ = engines(model_of("qwen2", chat), chat, slots=32)
    replies = []
    for engine in (static, dynamic):
        tickets = [engine.submit(request) for request in asked(3)]
        found = dict(engine.poll())
        long = Request(user("Mina has beads. " * 40), Sampling(0.0, max_new_tokens=9), key=(1,))
        tickets += [engine.submit(request) for request in [long, *asked(9)]]
        while engine.busy:
            found |= dict(engine.poll())
        replies.append([found[ticket] for ticket in tickets])
    assert_equal(*replies)
    assert static.captured.cache is not None
    assert static.captured.cache.layers[0].buffers[0].shape[::2] == (12, 3 * SHORTEST // 2)


def test_rows_leave_their_slots_when_these_would_take_too_much_memory(chat: ChatFormat) -> None:
    static, dynamic, capture = engines(model_of("qwen2", chat), chat, slots=32)
    few = asked(3)
    replies = []
    for engine in (static, dynamic):
        tickets = [engine.submit(request) for request in few]
        found = dict(engine.poll())
        static.captured.limit = 0
        tickets += [engine.submit(request) for request in asked(9)]
        while engine.busy:
            found |= dict(engine.poll())
        replies.append([found[ticket] for ticket in tickets])
    assert_equal(*replies)
    assert 0 < capture.replayed < static.steps


def test_a_prompt_goes_on_from_a_slot(chat: ChatFormat) -> None:
    static, dynamic, _ = engines(model_of("llama", chat), chat)
    chats = [user("Mina has beads. " * n) for n in (2, 5)]
    for turn in range(3):
        requests = [
            Request(each, Sampling(0.0, max_new_tokens=20), key=(turn, n))
            for n, each in enumerate(chats)
        ]
        found, want = answer(static, requests), answer(dynamic, requests)
        assert_equal(found, want)
        chats = [
            (*each, *assistant(reply), *user("And then?")) for each, reply in zip(chats, found)
        ]
    assert static.prefilled == dynamic.prefilled


def test_sizes_are_at_most_half_too_large() -> None:
    sizes = sorted({rounded(n) for n in range(1, 300)})
    assert sizes == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384]
    assert all(n <= rounded(n) <= 1.5 * n for n in range(1, 300))
    assert [rounded(n, 128) for n in (1, 128, 129, 200, 257)] == [128, 128, 192, 256, 384]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_graphs_on_a_gpu(kind: str, chat: ChatFormat) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    model = model_of(kind, chat).cuda()
    graphs, plain = (TransformersEngine(model, chat, slots=4) for _ in range(2))
    plain.captured = Slots(None, 0)
    for version in range(2):
        assert_equal(answer(graphs, asked(13)), answer(plain, asked(13)))
        with torch.no_grad():
            model.lm_head.weight.mul_(1.1)
        graphs.update(version + 1)
        plain.update(version + 1)
    assert graphs.captured.cache is not None
