"""Generation with any transformers causal language model: continuous batching on
left-padded rows.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from slm_math.engines.base import ContextFull, Engine, EngineError, Request, Weights
from slm_math.engines.cache import RowCache
from slm_math.engines.prompting import fit_prompt
from slm_math.engines.sampling import choose, record_support, uniforms
from slm_math.policy.chat import ChatFormat
from slm_math.policy.forward import inner
from slm_math.types import Reply


@dataclass
class _Row:
    """A request that is being decoded."""

    ticket: int
    request: Request
    prompt: tuple[int, ...]
    digest: str  # of the prompt's text
    uniform: Any
    room: int  # tokens that may still be sampled
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    finish: str = ""

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.tokens)


class TransformersEngine(Engine):
    """Decodes up to `slots` requests at once. A `poll` makes a step at least, until one has
    finished or time is up.

    Equal prompts are prefilled once. Finished rows leave the batch when a quarter of it is idle or
    others wait. Sampling depends on the request's key alone. `context` wraps every forward pass
    (autocast, adapter choice); `heartbeat` is called after each.
    """

    returns_logprobs = True
    runs_in_poll = True
    name = "the transformers engine"

    def __init__(
        self,
        model: Any,
        chat: ChatFormat,
        slots: int = 64,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"an engine needs slots >= 1, got {slots}")
        self.model = model
        self.chat = chat
        self.slots = slots
        self.context = context
        self.heartbeat = heartbeat
        self.version = 0
        # forward passes that decode, tokens from these, other passes
        self.steps = self.decoded = self.prefills = 0
        self._tickets = 0
        self._waiting: deque[tuple[int, Request]] = deque()
        self._rows: list[_Row] = []
        self._cache: RowCache | None = None
        self._ended = frozenset[int]()

    # -- the seam
    #
    # ----------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> int:
        self._tickets += 1
        self._waiting.append((self._tickets, request))
        return self._tickets

    def cancel(self, ticket: int) -> None:
        self._waiting = deque(item for item in self._waiting if item[0] != ticket)
        for row in self._rows:
            if row.ticket == ticket:
                row.finish = "cancelled"

    def update(self, version: int, weights: Weights | None = None) -> None:
        self.version = version  # it decodes with the trainer's own weights

    def release(self) -> None:
        if not self.busy:
            self._rows, self._cache = [], None

    def usage(self) -> dict[str, int]:
        return {
            "slots": self.slots,
            "steps": self.steps,
            "tokens": self.decoded,
            "prefills": self.prefills,
        }

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(not row.finish for row in self._rows)

    @torch.no_grad()
    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        if not self.busy:
            return []
        training = self.model.training
        self.model.eval()
        try:
            end = time.perf_counter() + timeout
            with self.context():
                finished = self._turnover()
                while not finished and any(not row.finish for row in self._rows):
                    finished = self._step()
                    if time.perf_counter() >= end:
                        break
        finally:
            self.model.train(training)
            # casts made without gradient must not serve a later backward
            torch.clear_autocast_cache()
        return finished

    # -- rows come and go
    # ----------------------------------------------------------------------------------------

    def _turnover(self) -> list[tuple[int, Reply | EngineError]]:
        """Drops finished rows when it pays and admits waiting requests; returns what was over at
        once.
        """
        alive = [i for i, row in enumerate(self._rows) if not row.finish]
        room = self.slots - len(alive)
        # a lone newcomer waits for company unless most slots are free: a prefill costs about as
        # much as a decode step
        admit = (
            self._waiting
            and room
            and (len(self._waiting) >= self.slots // 8 or room >= self.slots // 2)
        )
        if len(alive) < len(self._rows) and (admit or len(alive) <= 0.75 * len(self._rows)):
            self._keep(alive)
        return self._admit(room) if admit else []

    def _keep(self, alive: list[int]) -> None:
        self._rows = [self._rows[i] for i in alive]
        if not self._rows:
            self._cache = None
        elif self._cache is not None:
            start = self._cache.length - max(row.length - 1 for row in self._rows)
            self._cache.keep(torch.tensor(alive, device=self.model.device), start)

    def _admit(self, room: int) -> list[tuple[int, Reply | EngineError]]:
        refused: list[tuple[int, Reply | EngineError]] = []
        rows: list[_Row] = []
        while self._waiting and len(rows) < room:
            ticket, request = self._waiting.popleft()
            limit = (
                getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
                or 1 << 30
            )
            try:
                prompt, digest, budget = fit_prompt(self.chat, request, limit)
            except ContextFull as error:
                refused.append((ticket, error))
                continue
            rows.append(
                _Row(ticket, request, prompt, digest, uniforms(request.key, budget), budget)
            )
        if not rows:
            return refused
        logits, cache = self._prefill(rows)
        if self._cache is None:
            self._cache = cache
        else:
            self._cache.join(cache)
        self._rows += rows
        return refused + self._sample(rows, logits)

    def _prefill(self, rows: list[_Row]) -> tuple[Tensor, RowCache]:
        """Runs each distinct prompt once; returns last logits (B, V) and the cache, expanded to all
        rows.
        """
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(row.prompt for row in rows))}
        length = max(map(len, distinct))
        ids = torch.zeros(len(distinct), length, dtype=torch.long)
        for prompt, i in distinct.items():
            ids[i, length - len(prompt) :] = torch.tensor(prompt)
        lengths = torch.tensor([len(prompt) for prompt in distinct])
        cache = RowCache(self.model.config.get_text_config().num_hidden_layers)
        logits = self._forward(ids, lengths, cache)
        self.prefills += 1
        index = torch.tensor([distinct[row.prompt] for row in rows], device=self.model.device)
        if len(distinct) < len(rows):
            cache.keep(index)
        return logits[index], cache

    # -- one token for every row
    # ---------------------------------------------------------------------------------

    def _step(self) -> list[tuple[int, Reply | EngineError]]:
        assert self._cache is not None
        ids = torch.tensor([[row.tokens[-1]] for row in self._rows])
        lengths = torch.tensor([row.length for row in self._rows])
        logits = self._forward(ids, lengths, self._cache)
        alive = [i for i, row in enumerate(self._rows) if not row.finish]
        if len(alive) < len(self._rows):
            logits = logits[alive]
        self.steps += 1
        self.decoded += len(alive)
        return self._sample([self._rows[i] for i in alive], logits)

    def _forward(self, ids: Tensor, lengths: Tensor, cache: RowCache) -> Tensor:
        """ids (B, S): the newest tokens of left-padded rows of `lengths` (B,) tokens; returns last
        logits (B, V).
        """
        width = cache.length + ids.shape[1]
        # (B, L): position in its row, negative where padded
        place = torch.arange(width) - (width - lengths[:, None])
        positions = place[:, -ids.shape[1] :].clamp(min=0)
        mask = (place >= 0).long()
        device = self.model.device
        out = self.model(
            input_ids=ids.to(device),
            attention_mask=None if bool(mask.all()) and ids.shape[1] == 1 else mask.to(device),
            position_ids=positions.to(device),
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: cache},
        )
        self.heartbeat()
        return out.logits[:, -1]

    def _sample(self, rows: list[_Row], logits: Tensor) -> list[tuple[int, Reply | EngineError]]:
        plans = [row.request.sampling for row in rows]
        # rows that cannot sample every token
        cut = [p.restricts_support and p.temperature > 0 for p in plans]
        for i, row in enumerate(rows):
            if not row.tokens and plans[i].not_first:
                banned = [self.chat.tokens(text)[0] for text in plans[i].not_first]
                logits[i, banned] = -torch.inf
                cut[i] = True
            cut[i] &= row.request.support
        numbers = torch.tensor(
            [
                [p.temperature, p.top_p, p.top_k, p.min_p, row.uniform[len(row.tokens)]]
                for p, row in zip(plans, rows)
            ],
            device=logits.device,
        )
        tokens, logps, kept = choose(logits, *numbers.unbind(1))
        support = [b""] * len(rows)
        if any(cut):
            logps, support = record_support(logps, kept, torch.tensor(cut, device=logits.device))
        chosen = logps.gather(-1, tokens[:, None]).squeeze(-1)
        finished: list[tuple[int, Reply | EngineError]] = []
        for row, token, logp, could in zip(rows, tokens.tolist(), chosen.tolist(), support):
            row.tokens.append(token)
            row.logps.append(logp)
            row.kept.append(could)
            row.finish = self._over(row, token)
            if row.finish:
                finished.append((row.ticket, self._reply(row)))
        return finished

    def _over(self, row: _Row, token: int) -> str:
        if token in self.ends:
            return "stop"
        stops = row.request.sampling.stop
        if stops:
            # a stop string cannot reach further back than one token a byte
            tail = self.chat.text(row.tokens[-max(len(stop.encode()) for stop in stops) - 1 :])
            if any(stop in tail for stop in stops):
                return "stop"
        return "length" if len(row.tokens) >= row.room else ""

    @cached_property
    def _cache_argument(self) -> str:
        """The name of the cache: transformers 5.24 renames `past_key_values`, and 5.40 drops it."""
        known = inspect.signature(inner(self.model).forward).parameters
        return "cache" if "cache" in known else "past_key_values"

    @property
    def ends(self) -> frozenset[int]:
        """Every token that ends a turn."""
        if not self._ended:
            self._ended = self.chat.ends(
                self.model.config, getattr(self.model, "generation_config", None)
            )
        return self._ended

    def _reply(self, row: _Row) -> Reply:
        sampling = row.request.sampling
        return Reply(
            text=self.chat.text(row.tokens),
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logps),
            support=tuple(row.kept) if any(row.kept) else (),
            finish="stop" if row.finish == "stop" else "length",
            prompt_ids=row.prompt,
            prompt=row.digest,
            version=self.version,
            temperature=sampling.temperature or 1.0,
            seconds=time.perf_counter() - row.start,
        )
