"""Continuous batching with any causal language model of transformers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from slm_math.engines.base import (
    EngineError,
    LocalEngine,
    Request,
    Weights,
    check_logprobs,
    refuse_effort,
)
from slm_math.engines.prompting import fit_prompt
from slm_math.engines.sampling import record_support, sample_tokens, uniforms
from slm_math.images import image_hash
from slm_math.policy.caches import DecodingCache, new_cache
from slm_math.policy.chat import ChatFormat
from slm_math.policy.forward import next_logits
from slm_math.policy.loading import context_in
from slm_math.policy.sight import Extent
from slm_math.types import Image, Reply


@dataclass
class _Decoding:
    """A request that is being decoded."""

    ticket: int
    request: Request
    prompt: tuple[int, ...]
    digest: str  # of the prompt's text and images
    images: tuple[Image, ...]
    extent: Extent  # of the images
    uniform: Any
    budget: int  # the most tokens that may be sampled
    restricted: bool  # whether top-p, top-k or min-p restricts the support
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    support: list[bytes] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    finish: str = ""

    @property
    def length(self) -> int:
        """The positions that prompt and reply take in the cache."""
        return len(self.prompt) + self.extent.extra + len(self.tokens)

    @property
    def prompt_key(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """The prompt's token ids and the content of its images; requests with equal keys share a
        prefill.
        """
        return self.prompt, tuple(image_hash(image.source) for image in self.images)


class TransformersEngine(LocalEngine):
    """Decodes up to `slots` requests at once.

    A `poll` makes decoding steps, at least one, until a request has finished or its time is up.
    Equal prompts are prefilled once. Finished rows leave the batch if a quarter of it is idle or if
    other requests wait. Sampling depends on the request's key alone. `context` wraps every forward
    pass (autocast, choice of the adapter); `heartbeat` is called after each.
    """

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
            raise ValueError(f"slots must be at least 1, got {slots}")
        self.model = model
        self.chat = chat
        self.slots = slots
        self.context = context
        self.heartbeat = heartbeat
        self.version = 0
        self._tickets = 0
        self._waiting: deque[tuple[int, Request]] = deque()
        self._rows: list[_Decoding] = []
        self._cache: DecodingCache | None = None
        self._ended = frozenset[int]()

    # the interface of an engine

    def submit(self, request: Request) -> int:
        refuse_effort(request)
        self._tickets += 1
        self._waiting.append((self._tickets, request))
        return self._tickets

    def cancel(self, ticket: int) -> None:
        self._waiting = deque(item for item in self._waiting if item[0] != ticket)
        for row in self._rows:
            if row.ticket == ticket:
                row.finish = "canceled"

    def update(self, version: int, weights: Weights | None = None) -> None:
        self.version = version  # this engine decodes with the trainer's own weights

    def release(self) -> None:
        if not self.busy:
            self._rows, self._cache = [], None

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
            # weights that autocast cast without gradients must not be reused in training
            torch.clear_autocast_cache()
        return finished

    # admission and removal of rows

    def _turnover(self) -> list[tuple[int, Reply | EngineError]]:
        """Removes finished rows and admits waiting requests if it is worth the cost; returns the
        requests that have finished already.
        """
        alive = [i for i, row in enumerate(self._rows) if not row.finish]
        free = self.slots - len(alive)
        # a prefill costs about as much as a decoding step, so a few waiting requests are not
        # admitted until more wait or most slots are free
        admit = (
            self._waiting
            and free
            and (len(self._waiting) >= self.slots // 8 or free >= self.slots // 2)
        )
        if len(alive) < len(self._rows) and (admit or len(alive) <= 0.75 * len(self._rows)):
            self._keep(alive)
        return self._admit(free) if admit else []

    def _keep(self, alive: list[int]) -> None:
        self._rows = [self._rows[i] for i in alive]
        if not self._rows:
            self._cache = None
        elif self._cache is not None:
            longest = max(row.length - 1 for row in self._rows)
            self._cache.keep(torch.tensor(alive, device=self.model.device), longest)

    def _admit(self, free: int) -> list[tuple[int, Reply | EngineError]]:
        rejected: list[tuple[int, Reply | EngineError]] = []
        rows: list[_Decoding] = []
        while self._waiting and len(rows) < free:
            ticket, request = self._waiting.popleft()
            sampling = request.sampling
            limit = context_in(self.model.config) or 1 << 30
            try:
                fitted = fit_prompt(self.chat, request, limit)
            except EngineError as error:
                rejected.append((ticket, error))
                continue
            rows.append(
                _Decoding(
                    ticket=ticket,
                    request=request,
                    prompt=fitted.ids,
                    digest=fitted.digest,
                    images=fitted.images,
                    extent=fitted.extent,
                    uniform=uniforms(request.key, fitted.budget),
                    budget=fitted.budget,
                    restricted=sampling.restricts_support and sampling.temperature > 0,
                )
            )
        if not rows:
            return rejected
        logits, cache = self._prefill(rows)
        if self._cache is None:
            self._cache = cache
        else:
            self._cache.join(cache)
        self._rows += rows
        return rejected + self._sample(rows, logits)

    def _prefill(self, rows: list[_Decoding]) -> tuple[Tensor, DecodingCache]:
        """Runs each distinct prompt (ids and images) once. Returns the last logits (B, V) and the
        cache, both expanded to all rows.
        """
        keys = [row.prompt_key for row in rows]
        distinct = dict(zip(keys, rows))
        prompts = [prompt for prompt, _ in distinct]
        length = max(map(len, prompts))
        ids = torch.zeros(len(prompts), length, dtype=torch.long)
        for n, prompt in enumerate(prompts):
            ids[n, length - len(prompt) :] = torch.tensor(prompt)
        lengths = torch.tensor(list(map(len, prompts)))
        cache = new_cache(self.model)
        images = tuple(row.images for row in distinct.values())
        logits = self._forward(ids, lengths, cache, images)
        self.prefills += 1
        place = {prompt_key: n for n, prompt_key in enumerate(distinct)}
        index = torch.tensor([place[key] for key in keys], device=self.model.device)
        if len(distinct) < len(rows):
            cache.keep(index)
        return logits[index], cache

    # one token for every row

    def _step(self) -> list[tuple[int, Reply | EngineError]]:
        assert self._cache is not None
        ids = torch.tensor([[row.tokens[-1]] for row in self._rows])
        lengths = torch.tensor([row.length for row in self._rows])
        lags = None
        if self.chat.sight is not None:
            lags = torch.tensor([row.extent.lag for row in self._rows])
        logits = self._forward(ids, lengths, self._cache, lags=lags)
        alive = [i for i, row in enumerate(self._rows) if not row.finish]
        if len(alive) < len(self._rows):
            logits = logits[alive]
        self.steps += 1
        self.decoded += len(alive)
        return self._sample([self._rows[i] for i in alive], logits)

    def _forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        cache: DecodingCache,
        images: tuple[tuple[Image, ...], ...] = (),
        lags: Tensor | None = None,
    ) -> Tensor:
        """The logits (B, V) after the last tokens, see `next_logits`."""
        logits = next_logits(self.model, ids, lengths, cache, images=images, lags=lags)
        self.heartbeat()
        return logits

    def _sample(
        self, rows: list[_Decoding], logits: Tensor
    ) -> list[tuple[int, Reply | EngineError]]:
        plans = [row.request.sampling for row in rows]
        # whether a row's support is restricted, and has to be recorded
        restricted = [row.restricted for row in rows]
        for i, row in enumerate(rows):
            if not row.tokens and plans[i].not_first:
                banned = [n for text in plans[i].not_first for n in self.chat.first_ids(text)]
                logits[i, banned] = -torch.inf
                restricted[i] = True
            restricted[i] &= row.request.support
        numbers = torch.tensor(
            [
                [p.temperature, p.top_p, p.top_k, p.min_p, row.uniform[len(row.tokens)]]
                for p, row in zip(plans, rows)
            ],
            device=logits.device,
        )
        tokens, logps, support = sample_tokens(logits, *numbers.unbind(1))
        packed = [b""] * len(rows)
        if any(restricted):
            recorded = torch.tensor(restricted, device=logits.device)
            logps, packed = record_support(logps, support, recorded)
        chosen = logps.gather(-1, tokens[:, None]).squeeze(-1)
        logprobs = chosen.tolist()
        check_logprobs(logprobs, self.model_name, str(self.model.dtype).removeprefix("torch."))
        finished: list[tuple[int, Reply | EngineError]] = []
        for row, token, logp, support_ids in zip(rows, tokens.tolist(), logprobs, packed):
            row.tokens.append(token)
            row.logprobs.append(logp)
            row.support.append(support_ids)
            row.finish = self._finish_reason(row, token)
            if row.finish:
                finished.append((row.ticket, self._reply(row)))
        return finished

    def _finish_reason(self, row: _Decoding, token: int) -> str:
        """ "stop" or "length" if the reply ends with this token, otherwise ""."""
        if token in self.ends:
            return "stop"
        stops = row.request.sampling.stop
        if stops:
            # a token holds at least one byte, which bounds how many tokens a stop string spans
            tail = self.chat.text(row.tokens[-max(len(stop.encode()) for stop in stops) - 1 :])
            if any(stop in tail for stop in stops):
                return "stop"
        return "length" if len(row.tokens) >= row.budget else ""

    @property
    def model_name(self) -> str:
        """The model as errors name it."""
        return str(getattr(self.model.config, "name_or_path", "")) or "in training"

    @property
    def ends(self) -> frozenset[int]:
        """All tokens that end a turn."""
        if not self._ended:
            self._ended = self.chat.ends(
                self.model.config, getattr(self.model, "generation_config", None)
            )
        return self._ended

    def _reply(self, row: _Decoding) -> Reply:
        sampling = row.request.sampling
        return Reply(
            text=self.chat.reply_text(row.prompt, row.tokens, row.request.resume),
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            support=tuple(row.support) if any(row.support) else (),
            finish="stop" if row.finish == "stop" else "length",
            prompt_ids=row.prompt,
            prompt=row.digest,
            version=self.version,
            temperature=sampling.temperature or 1.0,
            seconds=time.perf_counter() - row.start,
            asked=len(row.prompt) + row.extent.extra,
        )
