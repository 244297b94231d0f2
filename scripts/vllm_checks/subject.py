"""An engine under test, the same model in plain transformers, and measurements with bounds."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slm_math.engines.base import Engine, Request, Weights
from slm_math.policy.chat import ChatFormat
from slm_math.policy.scratch import Scratch
from slm_math.types import Chat, Reply, Sampling, user

CONTEXT = 512  # tokens
# vLLM wants heads of 32 on a CPU
SCRATCH = Scratch(hidden=128, layers=2, heads=4, ffn=128, context=CONTEXT)
NATS = 1e-5  # fp32 engines on one machine agree better than this


@dataclass(frozen=True)
class Measurement:
    """A measured value and its bounds; NaN never passes."""

    what: str
    value: float
    most: float = math.inf
    least: float = -math.inf
    error: str = ""

    @property
    def passes(self) -> bool:
        return not math.isnan(self.value) and self.least <= self.value <= self.most

    @property
    def bar(self) -> str:
        bounds = [f"<= {self.most:g}"] * (self.most < math.inf) + [f">= {self.least:g}"] * (
            self.least > -math.inf
        )
        return " and ".join(bounds)


class Subject:
    """An engine, and the transformers model whose weights it holds.

    `ending`: two chats whose greedy replies reach an end token of the generation config.
    """

    def __init__(self, engine: Engine, model: Any, tokenizer: Any) -> None:
        self.engine, self.model, self.tokenizer = engine, model, tokenizer
        self.chat = ChatFormat(tokenizer)
        self.version = 0
        self.noise = torch.Generator().manual_seed(0)

    def answers(self, requests: Sequence[Request], seconds: float = 200) -> list[Any]:
        return self.collect([self.engine.submit(request) for request in requests], seconds)

    def collect(self, tickets: Sequence[int], seconds: float = 200) -> list[Any]:
        """The results of tickets in their order. Raises TimeoutError: no check hangs."""
        results: dict[int, Any] = {}
        end = time.monotonic() + seconds
        while not results.keys() >= set(tickets):
            if time.monotonic() > end:
                missing = len(set(tickets) - results.keys())
                raise TimeoutError(f"{missing} requests not answered within {seconds:g} s")
            results |= dict(self.engine.poll(1.0))
        return [results[ticket] for ticket in tickets]

    def send(self) -> float:
        """Sends the model's weights to the engine; returns the milliseconds that this took."""
        start = time.perf_counter()
        self.version += 1
        self.engine.update(self.version, Weights(tensors=self.model.named_parameters))
        return 1000 * (time.perf_counter() - start)

    @torch.no_grad()
    def perturb(self, sd: float = 0.01) -> None:
        for parameter in self.model.parameters():
            parameter += sd * torch.randn(parameter.shape, generator=self.noise)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restores the weights of model and engine afterwards."""
        old = copy.deepcopy(self.model.state_dict())
        try:
            yield
        finally:
            self.model.load_state_dict(old)
            self.send()

    def greedy(self, prompt: Sequence[int], budget: int) -> tuple[int, ...]:
        """The reply of transformers' `generate`."""
        ids = torch.tensor([prompt])
        ends = [self.tokenizer.eos_token_id, *self.model.generation_config.eos_token_id]
        options = {"do_sample": False, "max_new_tokens": budget, "eos_token_id": ends}
        out = self.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return tuple(out[0, ids.shape[1] :].tolist())

    @property
    def ending(self) -> list[Chat]:
        return [user("What is 3 + 4?"), user("Mina has 12 beads and buys 7.")]


def error_text(error: Exception | None) -> str:
    """One short line for the table."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:100]


@torch.no_grad()
def plain(model: Any, reply: Reply) -> Tensor:
    """Log-softmax (T, V) of a plain forward pass at the reply's positions and temperature."""
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    return (model(ids).logits[0, len(reply.prompt_ids) - 1 : -1] / reply.temperature).log_softmax(
        -1
    )


def gap(model: Any, *replies: Reply) -> float:
    """The largest |d log-probability| of replies' tokens, in nats."""
    gaps = []
    for reply in replies:
        want = plain(model, reply).gather(1, torch.tensor(reply.token_ids)[:, None])[:, 0]
        gaps.append((want - torch.tensor(reply.logprobs)).abs().max().item())
    return max(gaps)


def requests(n: int, seed: int = 0, role: str = "", **sampling: Any) -> list[Request]:
    """Prompts of many lengths, some equal, with budgets of many lengths."""
    return [
        Request(
            user("Mina has beads. " * (1 + i % 5)),
            Sampling(**({"max_new_tokens": 5 + i * 7 % 23} | sampling)),
            key=(seed, i),
            role=role,
        )
        for i in range(n)
    ]


def tiny(folder: Path, tied: bool) -> tuple[Any, Any]:
    """A random model with clear greedy choices in `folder`, and its tokenizer."""
    tokenizer = SCRATCH.tokenizer()
    model = SCRATCH.model(tokenizer).eval()
    if not tied:
        config = copy.deepcopy(model.config)
        config.tie_word_embeddings = False
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = type(model)(config).eval()
    for parameter in model.parameters():
        parameter.data *= 5 if parameter.ndim == 2 else 1
    return export(model, tokenizer, folder)


def export(model: Any, tokenizer: Any, folder: Path) -> tuple[Any, Any]:
    """Saves a model whose generation config names three end tokens: its own, and two that greedy
    replies reach.
    """
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    subject = Subject(Engine(), model, tokenizer)
    ends: list[int] = []
    for chat in subject.ending:
        reply = subject.greedy(subject.chat.encode(chat), 16)
        new = [token for k, token in enumerate(reply) if k > 3 and token not in (*reply[:k], *ends)]
        ends.append(next(token for token in reversed(new) if token != tokenizer.eos_token_id))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer
