"""How far one poll goes, and what the engine says it did."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from answering import answer
from tiny import SCRATCH

from slm_math.agents import SingleShot
from slm_math.engines import transformers
from slm_math.engines.base import Request
from slm_math.engines.transformers import TransformersEngine
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.evaluation.table import decoding_line
from slm_math.policy.chat import ChatFormat
from slm_math.rollout.executors import Executors
from slm_math.types import Problem, Sampling, Task, user


@pytest.fixture(scope="module")
def model(chat: ChatFormat) -> Any:
    model = SCRATCH.model(chat.tokenizer).eval()
    never = torch.tensor(sorted({chat.tokenizer.eos_token_id, chat.end_id}))
    # no reply ends before its budget
    model.lm_head.register_forward_hook(
        lambda head, given, logits: logits.index_fill(-1, never, -1e9)
    )
    return model


def engine_of(model: Any, chat: ChatFormat, slots: int = 64) -> TransformersEngine:
    return TransformersEngine(model, chat, slots=slots)


def requests(*lengths: int, text: str = "Mina has {} beads.") -> list[Request]:
    return [
        Request(user(text.format(i)), Sampling(1.0, max_new_tokens=n), key=("k", i))
        for i, n in enumerate(lengths)
    ]


def test_poll_without_time_makes_a_step(model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat)
    engine.submit(*requests(12))
    for step in range(1, 11):
        assert engine.poll(timeout=0) == []
        assert (engine.usage()["steps"], engine.usage()["prefills"]) == (step, 1)
    [(ticket, reply)] = engine.poll(timeout=0)
    assert (ticket, reply.tokens, reply.finish) == (1, 12, "length")
    assert engine.usage()["steps"] == 11  # the first token is that of the prefill


def test_poll_with_time_stops_at_the_first_reply(model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat)
    for request in requests(4, 40, 9):
        engine.submit(request)
    assert [ticket for ticket, _ in engine.poll(timeout=60)] == [1]
    assert engine.usage()["steps"] == 3
    assert [ticket for ticket, _ in engine.poll(timeout=60)] == [3]
    assert engine.usage()["steps"] == 8


def test_poll_ends_when_time_is_up(
    model: Any, chat: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[Any] = []  # each takes a second
    clock = SimpleNamespace(perf_counter=lambda: float(len(passes)))
    engine = engine_of(model, chat)
    engine.submit(*requests(400))
    engine.poll(timeout=0)
    monkeypatch.setattr(transformers, "time", clock)
    with model.lm_head.register_forward_hook(lambda *_: passes.append(1)):
        assert engine.poll(timeout=4.5) == []
    assert engine.usage()["steps"] == 1 + 5


def test_poll_of_nothing_does_nothing(model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat)
    assert engine.poll(timeout=3600.0) == []  # or the test would take an hour
    assert engine.usage() == {"slots": 64, "steps": 0, "tokens": 0, "prefills": 0}


def test_replies_do_not_depend_on_how_long_polls_are(model: Any, chat: ChatFormat) -> None:
    asked = requests(5, 17, 3, 11, 20)
    replies = [
        [reply.token_ids for reply in answer(engine_of(model, chat, 3), asked, timeout)]
        for timeout in (0, 0.002, 9)
    ]
    assert replies[0] == replies[1] == replies[2]


@pytest.mark.parametrize("slots", [1, 2, 3, 16])
def test_tokens_are_those_that_steps_sampled(slots: int, model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat, slots)
    lengths = (5, 17, 3, 11, 20, 1)
    replies = answer(engine, requests(*lengths))
    assert [reply.tokens for reply in replies] == list(lengths)
    used = engine.usage()
    assert used["tokens"] == sum(n - 1 for n in lengths)
    assert used["tokens"] <= used["steps"] * slots
    if slots == 1:
        assert (used["steps"], used["prefills"]) == (sum(n - 1 for n in lengths), len(lengths))
    if slots == 16:
        assert (used["steps"], used["prefills"]) == (max(lengths) - 1, 1)


def test_equal_prompts_are_one_prefill(model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat)
    answer(engine, requests(6, 6, 6, 6, text="the same"))
    assert engine.usage() == {"slots": 64, "steps": 5, "tokens": 20, "prefills": 1}


def test_canceled_requests_are_not_counted_further(model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat, 2)
    first, second = (engine.submit(request) for request in requests(30, 10))
    for _ in range(3):
        engine.poll(timeout=0)
    assert engine.usage()["tokens"] == 6
    engine.cancel(first)
    assert engine.busy == 1
    found = {}
    while engine.busy:
        found |= dict(engine.poll(timeout=0))
    assert set(found) == {second}
    assert engine.usage()["tokens"] == 6 + 6
    assert engine.usage()["steps"] == 9


def test_poll_leaves_the_mode_of_the_model(model: Any, chat: ChatFormat) -> None:
    engine = engine_of(model, chat)
    model.train()
    engine.submit(*requests(3))
    try:
        engine.poll(timeout=0)
        assert model.training
    finally:
        model.eval()


def test_evaluation_tells_how_full_the_slots_were(
    model: Any, chat: ChatFormat, tmp_path: Path
) -> None:
    engine = engine_of(model, chat, 2)
    answer(engine, requests(7))  # what was done before does not count
    tasks = [Task(Problem(f"p/{i}", f"What is {i}?"), "1") for i in range(3)]
    executors = Executors({"default": engine}, {"default": Sampling(0.0, max_new_tokens=5)})
    evaluate(Plan(SingleShot("solve_plain"), tasks), executors, Output(tmp_path))
    line = decoding_line("one", tmp_path)
    # two replies side by side and one by itself: four steps of two tokens, four of one
    assert line == "one: 12 tokens in 8 decode steps, 75 % of the slots"


def test_short_prompts_of_different_lengths_are_one_prefill(model: Any, chat: ChatFormat) -> None:
    asked = [requests(4, text="a" * n)[0] for n in (3, 9, 5, 12)]
    engine = engine_of(model, chat)
    together = answer(engine, asked)
    assert engine.usage()["prefills"] == 1
    alone = [answer(engine_of(model, chat), [request])[0] for request in asked]
    assert [reply.token_ids for reply in together] == [reply.token_ids for reply in alone]
