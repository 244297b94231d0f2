"""How many tokens of prompts an engine reads for an agent of several turns."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import torch
from rollout.scripted import printing, served_by
from tiny import SCRATCH

from slm_math.agents import SolverVerifier
from slm_math.engines.transformers import TransformersEngine
from slm_math.policy.chat import ChatFormat
from slm_math.rollout.collect import run_agent
from slm_math.types import Problem, Reply, Sampling, Trace


class Stubborn(TransformersEngine):
    """Its replies read as if no draft were right; their tokens are the model's."""

    numbers = count()

    def _reply(self, row: Any) -> Reply:
        judging = row.request.role == "verifier"
        said = "VERDICT: INCORRECT" if judging else rf"\boxed{{{next(self.numbers)}}}"
        return replace(super()._reply(row), text=said, finish="stop")


def new_tokens(trace: Trace) -> int:
    """The tokens of prompts that no earlier turn of the trace has."""
    new, before = 0, []
    for turn in trace.turns:
        ids = turn.reply.prompt_ids
        known = [old for old in before if ids[: len(old)] == old]
        new += len(ids) - max(map(len, known), default=0)
        before.append(ids + turn.reply.token_ids)
    return new


def test_a_verifier_and_retries_read_new_messages_only() -> None:
    torch.set_num_threads(1)
    scratch = replace(SCRATCH, context=2048)
    chat = ChatFormat(scratch.tokenizer())
    engine = Stubborn(scratch.model(chat.tokenizer).eval(), chat, slots=None)
    executors = replace(
        served_by(engine, printing("1")), sampling={"default": Sampling(max_new_tokens=24)}
    )
    problems = [Problem(f"p/{n}", f"Mina has {n} beads and finds {n * 7} more.") for n in range(64)]
    traces = list(run_agent(SolverVerifier(rounds=3), [(p, 0) for p in problems], executors))
    assert {len(trace.turns) for trace in traces} == {5}
    assert engine.usage()["slots"] == 64
    everything = sum(len(turn.reply.prompt_ids) for trace in traces for turn in trace.turns)
    new = sum(map(new_tokens, traces))
    assert new < 0.8 * everything
    assert engine.prefilled <= 1.3 * new
