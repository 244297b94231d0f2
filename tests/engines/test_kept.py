"""Turns of a conversation are prefilled from where the turn before ended, and say the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from answering import answer
from cases import some
from seeing import drawings, model_of
from tiny import SCRATCH
from transformers import AutoModelForCausalLM
from transformers.models.gemma2 import Gemma2Config
from transformers.models.llama import LlamaConfig
from transformers.models.mamba import MambaConfig
from transformers.models.qwen3 import Qwen3Config

from slm_math.engines import transformers
from slm_math.engines.base import Request
from slm_math.engines.kept import BLOCK, KeptPrefixes
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy import forward, products
from slm_math.policy.chat import ChatFormat
from slm_math.types import Chat, Reply, Sampling, assistant, user

QUESTION = "Mina has 4 beads and finds 3 more of them. How many are there? "


def config_of(kind: str, tokens: int) -> Any:
    sizes = {
        "vocab_size": tokens,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
    }
    if kind == "states":
        return MambaConfig(vocab_size=tokens, hidden_size=32, num_hidden_layers=2, state_size=8)
    if kind == "windows":
        return Gemma2Config(**sizes, head_dim=8, sliding_window=24)
    return {"llama": LlamaConfig, "qwen3": Qwen3Config}[kind](**sizes, head_dim=8)


def network(kind: str, chat: ChatFormat) -> Any:
    torch.manual_seed(1)
    if kind == "qwen2":
        model = SCRATCH.model(chat.tokenizer).eval()
        for parameter in model.parameters():
            parameter.data *= 2.5 if parameter.ndim == 2 else 1
        return model
    config = config_of(kind, len(chat.tokenizer))
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def ask(
    engine: TransformersEngine, chats: Sequence[Chat], turn: int, most: int = 17
) -> list[Reply]:
    sampling = [Sampling(max_new_tokens=3 + 5 * n % most) for n in range(len(chats))]
    asked = [
        Request(chat, own, key=(n, turn)) for n, (chat, own) in enumerate(zip(chats, sampling))
    ]
    return answer(engine, asked)


def continued(chats: Sequence[Chat], replies: Sequence[Reply], texts: Sequence[str]) -> list[Chat]:
    return [
        (*chat, *assistant(reply), *user(text))
        for chat, reply, text in zip(chats, replies, texts, strict=True)
    ]


def check_turns(engine: TransformersEngine, chats: list[Chat], turns: int = 3) -> None:
    """Each turn against an engine that knows nothing of the turns before."""
    for turn in range(turns):
        replies = ask(engine, chats, turn)
        plain = ask(TransformersEngine(engine.model, engine.chat), chats, turn)
        for own, want in zip(replies, plain, strict=True):
            assert own.token_ids == want.token_ids
            assert own.logprobs == pytest.approx(want.logprobs, abs=1e-5)
        chats = continued(chats, replies, ["Why? " * (1 + n % 3) for n in range(len(chats))])


@pytest.mark.parametrize(
    ("kind", "slots"),
    some(
        product(("qwen2", "llama", "qwen3", "windows", "states"), (4, None)),
        [("qwen2", 4), ("windows", None), ("states", 4)],
    ),
)
def test_turns_say_what_they_say_without_what_is_kept(
    chat: ChatFormat, kind: str, slots: int | None
) -> None:
    engine = TransformersEngine(network(kind, chat), chat, slots)
    check_turns(engine, [user(QUESTION * (1 + n % 2) + str(n)) for n in range(6)])


def test_images_of_earlier_turns_are_not_read_again(tmp_path: Any) -> None:
    for family in ("qwen2_vl", "idefics3"):
        model, chat = model_of(family)
        a, b, *_ = drawings(tmp_path)
        engine = TransformersEngine(model, chat)
        check_turns(engine, [user(QUESTION, [a]), user(QUESTION), user(QUESTION, [b, a])])
        engine.release()
        [first] = ask(engine, [user(QUESTION, [a])], 0)
        before = engine.prefilled
        own = user(QUESTION, [a])
        [second] = ask(engine, [(*own, *assistant(first), *user("Why?"))], 1)
        known = len(first.prompt_ids) + len(first.token_ids) - 1
        assert engine.prefilled - before == len(second.prompt_ids) - known
        # another image in its place is read
        other = (*user(QUESTION, [b]), *assistant(first), *user("Why?"))
        before = engine.prefilled
        [third] = ask(engine, [other], 1)
        assert engine.prefilled - before > len(third.prompt_ids)


def test_a_turn_prefills_its_new_tokens_only(chat: ChatFormat) -> None:
    engine = TransformersEngine(network("qwen2", chat), chat)
    first = user(QUESTION)
    [one] = ask(engine, [first], 0)
    assert engine.prefilled == len(one.prompt_ids)
    [two] = ask(engine, continued([first], [one], ["Why?"]), 1)
    # the reply's last token is not in the cache: it was never read
    new = len(two.prompt_ids) - len(one.prompt_ids) - len(one.token_ids) + 1
    assert engine.prefilled == len(one.prompt_ids) + new


def test_what_prompts_begin_with_in_common_is_read_once(chat: ChatFormat) -> None:
    engine = TransformersEngine(network("qwen2", chat), chat)
    texts = ("Add.", "Subtract.", "Halve.", "Add twice.", "Show it.", "Think.")
    prompts = [user(QUESTION * 3 + text) for text in texts]
    replies = ask(engine, prompts * 2, 0)
    ids = [reply.prompt_ids for reply in replies[:6]]
    shared = next(n for n in range(len(ids[0])) if len({row[: n + 1] for row in ids}) > 1)
    longest = max(len(row) - shared for row in ids)
    assert engine.prefilled <= shared + 6 * longest
    before = engine.prefilled
    ask(engine, [user(QUESTION * 3 + "Double.")], 1)
    assert engine.prefilled - before < 20


def test_new_weights_forget(chat: ChatFormat) -> None:
    engine = TransformersEngine(network("qwen2", chat), chat)
    first = user(QUESTION)
    [one] = ask(engine, [first], 0)
    for parameter in engine.model.parameters():
        parameter.data *= 1.1
    engine.update(1)
    check_turns(engine, continued([first], [one], ["Why?"]), turns=1)


@pytest.mark.parametrize("sliced", [1, products.LEAST])
def test_the_step_is_that_of_transformers(
    chat: ChatFormat, monkeypatch: pytest.MonkeyPatch, sliced: int
) -> None:
    """Also with weights that change in place between two rollouts."""
    monkeypatch.setattr(products, "LEAST", sliced)
    for kind in ("qwen2", "llama", "qwen3"):
        engine = TransformersEngine(network(kind, chat), chat)
        assert forward.steps_alone(engine.model)
        for version in range(2):
            engine.update(version)
            chats = [user(QUESTION * (1 + n % 2) + str(n)) for n in range(5)]
            own = ask(engine, chats, 0)
            with monkeypatch.context() as patch:
                patch.setattr(forward, "steps_alone", lambda base: False)
                want = ask(TransformersEngine(engine.model, chat), chats, 0)
            for a, b in zip(own, want):
                assert a.token_ids == b.token_ids
                assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
            with torch.no_grad():
                for parameter in engine.model.parameters():
                    parameter.mul_(1.05)


@pytest.mark.parametrize(("memory", "places"), [(1 << 40, 70), (1, 64)])
def test_slots_follow_the_requests_and_the_memory(
    chat: ChatFormat, monkeypatch: pytest.MonkeyPatch, memory: int, places: int
) -> None:
    engine = TransformersEngine(network("qwen2", chat), chat, slots=None)
    monkeypatch.setattr(transformers, "memory_of", lambda device: memory)
    ask(engine, [user(str(n)) for n in range(70)], 0)
    assert engine.usage()["slots"] == places


def states(positions: int) -> Any:
    return ((torch.zeros(1, positions, 1), torch.zeros(1, positions, 1)),)


def test_the_least_recently_used_goes_first() -> None:
    kept = KeptPrefixes(limit=3 * 2 * 4 * BLOCK)
    rows = [tuple(range(n, n + BLOCK)) for n in (0, 100, 200, 300)]
    for row in rows[:3]:
        kept.add(row, states(BLOCK))
    assert kept.find(rows[0])[1] == BLOCK
    kept.add(rows[3], states(BLOCK))
    assert [kept.find(row)[1] for row in rows] == [BLOCK, 0, BLOCK, BLOCK]
    kept.add((*rows[0], 7), states(BLOCK + 1))  # takes the place of what it continues
    assert kept.find((*rows[0], 7, 8))[1] == BLOCK + 1
    assert kept.bytes <= kept.limit
    kept.clear()
    assert kept.find(rows[0]) == (None, 0)
    assert kept.bytes == 0
