"""An engine over fake vLLM servers: requests to it, its answers, and a check of their
log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from engines.vllm_endpoint import FakeVLLM
from tiny import SCRATCH

from slm_math.engines.base import EngineError, Request, Weights
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.types import Chat, Reply, Sampling, user


@contextmanager
def engine_of(servers: list[FakeVLLM], folder: Path, **options: Any) -> Iterator[VLLMServers]:
    """An engine with the policy of the servers' chat format, which retries fast."""
    engine = VLLMServers(
        [server.url for server in servers], **({"patience": 5, "timeout": 30} | options)
    )
    engine.backoff = 0.01
    chat = servers[0].chat
    engine.attach_policy(chat, chat.ends(servers[0].model.config), folder, "float32")
    try:
        yield engine
    finally:
        engine.close()


def request(text: str = "2 + 2?", chat: Chat | None = None, **options: Any) -> Request:
    own = {
        name: options.pop(name) for name in ("resume", "key", "support", "role") if name in options
    }
    return Request(
        chat or user(text),
        Sampling(**({"max_new_tokens": 4} | options)),
        **({"key": (text,)} | own),
    )


def answers(engine: VLLMServers, tickets: list[int]) -> list[Reply | EngineError]:
    """Results in the order of tickets; pytest's own limit ends a test in which one never comes."""
    results: dict[int, Reply | EngineError] = {}
    while len(results) < len(tickets):
        results |= dict(engine.poll(0.05))
    return [results[ticket] for ticket in tickets]


def ask(engine: VLLMServers, asked: Request | None = None) -> Any:
    [result] = answers(engine, [engine.submit(asked or request())])
    return result


def weights_of(seed: int) -> tuple[Any, Weights]:
    """A model of the servers' shape with other weights, and these weights as they are sent."""
    model = replace(SCRATCH, seed=seed).model(SCRATCH.tokenizer()).eval()
    return model, Weights(
        tensors=lambda: [(name, p.detach()) for name, p in model.named_parameters()]
    )


def gap(model: Any, reply: Reply) -> float:
    """The largest difference (nats) between a reply's log-probabilities and a plain forward pass of
    a model.
    """
    assert isinstance(reply, Reply), reply
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    with torch.no_grad():
        logps = (model(input_ids=ids).logits[0] / reply.temperature).log_softmax(-1)
    start = len(reply.prompt_ids)
    mine = [logps[start + i - 1, token].item() for i, token in enumerate(reply.token_ids)]
    return max(abs(a - b) for a, b in zip(mine, reply.logprobs, strict=True))
