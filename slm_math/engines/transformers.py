"""Continuous batching with any causal language model of transformers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
from slm_math.engines.decoding import Batch, Decoding, closed, next_tokens
from slm_math.engines.kept import KeptPrefixes
from slm_math.engines.prefill import Prompt, read, symbols_of
from slm_math.engines.prompting import fit_prompt
from slm_math.engines.sampling import uniforms
from slm_math.engines.vllm_setup import kv_bytes, memory
from slm_math.engines.waiting import Waiting
from slm_math.policy.caches import DecodingCache, OwnCaches, attends_only
from slm_math.policy.chat import ChatFormat
from slm_math.policy.forward import evaluating, inner, next_logits
from slm_math.policy.graphs import capture_on
from slm_math.policy.loading import context_in
from slm_math.policy.slots import SlotCache, Slots
from slm_math.types import Image, Reply

SLOTS = 64
SHARE = 8  # of the memory, for the keys and values of running requests, and for kept ones


def memory_of(device: torch.device) -> int:
    """The memory of a device in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory()


class TransformersEngine(LocalEngine):
    """Decodes up to `slots` requests at once; None is as many as are asked for, as far as the
    memory goes.

    A `poll` makes decoding steps, at least one, until a request has finished or its time is up.
    Equal prompts are prefilled once. The keys and values of rows that finish are kept until the
    weights change: a prompt that begins like an earlier prompt and its reply, such as the next turn
    of a conversation, is prefilled from where they part. Sampling depends on the request's key
    alone. `context` wraps every forward pass (autocast, choice of the adapter); `heartbeat` is
    called after each.

    `prefilled` counts the tokens of prompts that went through the network.
    """

    name = "the transformers engine"

    def __init__(
        self,
        model: Any,
        chat: ChatFormat,
        slots: int | None = 64,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        if slots is not None and slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        self.model = model
        self.chat = chat
        self.slots = slots
        self.context = context
        self.heartbeat = heartbeat
        self.version = 0
        self.prefilled = 0
        self._places = self._most = slots or 1  # for requests at once, now and in all
        self._tickets = 0
        self._waiting = Waiting()
        self._batch: Batch | None = None
        self._cache: DecodingCache | SlotCache | None = None
        self.captured = Slots(capture_on(model.device), memory_of(model.device) // SHARE)
        self.prefixes = KeptPrefixes(memory_of(model.device) // SHARE)
        self._ended = frozenset[int]()

    # the interface of an engine

    def submit(self, request: Request) -> int:
        refuse_effort(request)
        self._tickets += 1
        self._waiting.add(self._tickets, request)
        return self._tickets

    def cancel(self, ticket: int) -> None:
        self._waiting.cancel(ticket)
        for row in self._rows:
            if row.ticket == ticket:
                row.finish = "canceled"

    def update(self, version: int, weights: Weights | None = None) -> None:
        self.version = version  # this engine decodes with the trainer's own weights
        self.captured.settle()
        self.release()

    def release(self) -> None:
        self.prefixes.clear()
        if not self.busy:
            self._batch = self._cache = None

    def usage(self) -> dict[str, int]:
        return super().usage() | {"slots": self._most}

    @property
    def _rows(self) -> list[Decoding]:
        return [] if self._batch is None else self._batch.rows

    @property
    def busy(self) -> int:
        return len(self._waiting) + sum(not row.finish for row in self._rows)

    @torch.no_grad()
    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        if not self.busy:
            return []
        end = time.perf_counter() + timeout
        with evaluating(self.model), self.context():
            finished = self._turnover()
            while not finished and any(not row.finish for row in self._rows):
                finished = self._step()
                if time.perf_counter() >= end:
                    break
        return finished

    # admission and removal of rows

    def _turnover(self) -> list[tuple[int, Reply | EngineError]]:
        """Removes finished rows and admits waiting requests if it is worth the cost; returns the
        requests that have finished already.
        """
        alive = [i for i, row in enumerate(self._rows) if not row.finish]
        if self.slots is None and self._waiting:
            asked = len(alive) + len(self._waiting)
            self._places = max(self._places if alive else 1, min(asked, self._room()))
            self._most = max(self._most, self._places)
        free = self._places - len(alive)
        # a prefill costs about as much as a decoding step, so a few waiting requests are not
        # admitted until more wait or most slots are free
        admit = (
            len(self._waiting) > 0
            and free > 0
            and (len(self._waiting) >= self._places // 8 or free >= self._places // 2)
        )
        cheap = self._cache is not None and self._cache.keeps_cheaply
        if len(alive) < len(self._rows) and (
            admit or cheap or len(alive) <= 0.75 * len(self._rows)
        ):
            self._keep(alive)
        return self._admit(free) if admit else []

    def _room(self) -> int:
        """How many requests the memory has room for, if all become as long as one of them may; at
        least 64, since few do.
        """
        if not attends_only(self.model.config.get_text_config(decoder=True)):
            return SLOTS  # how large a state is, is not known
        longest = max((row.most for row in self._rows), default=0)
        for request in self._waiting:  # a prompt is taken to be as long as its reply may be
            longest = max(longest, 2 * request.sampling.max_new_tokens)
        longest = min(longest, context_in(self.model.config) or longest)
        number = kv_bytes(self.model.config, self.model.dtype.itemsize)
        return max(memory_of(self.model.device) // SHARE // (number * longest), SLOTS)

    def _keep(self, alive: list[int]) -> None:
        batch, cache = self._batch, self._cache
        assert batch is not None
        assert cache is not None
        if not isinstance(cache, OwnCaches):
            for index, row in enumerate(batch.rows):
                if row.finish:
                    states = cache.row(index, row.length)
                    self.prefixes.add((*row.symbols, *row.tokens[:-1]), states)
        if not alive:
            self._batch = self._cache = None
            return
        order = closed(alive)
        batch.keep(order)
        longest = max(row.length for row in batch.rows)
        cache.keep(torch.tensor(order, device=self.model.device), longest)

    def _admit(self, free: int) -> list[tuple[int, Reply | EngineError]]:
        rejected: list[tuple[int, Reply | EngineError]] = []
        rows: list[Decoding] = []
        while self._waiting and len(rows) < free:
            ticket, request = self._waiting.next(self._places)
            limit = context_in(self.model.config) or 1 << 30
            try:
                fitted = fit_prompt(self.chat, request, limit)
            except EngineError as error:
                rejected.append((ticket, error))
                continue
            rows.append(
                Decoding(
                    ticket=ticket,
                    request=request,
                    prompt=fitted.ids,
                    digest=fitted.digest,
                    images=fitted.images,
                    extent=fitted.extent,
                    uniform=uniforms(request.key, fitted.budget),
                    budget=fitted.budget,
                    symbols=symbols_of(fitted, self.chat.sight),
                )
            )
        if not rows:
            return rejected
        logits, cache = self._prefill(rows)
        batch = Batch(rows, self.model.device)
        finished = self._sample(batch, logits)
        before = None if self._batch is None else self._cache
        if self._batch is None or before is None:
            self._batch = batch
        else:
            self._batch.join(batch)
        lengths = [row.length for row in self._rows]
        most = max(row.most for row in self._rows)
        self._cache = self.captured.joined(inner(self.model), before, cache, lengths, most=most)
        return rejected + finished

    def _prefill(self, rows: list[Decoding]) -> tuple[Tensor, DecodingCache]:
        """Reads each distinct prompt (ids and images) once. Returns the last logits (B, V) and the
        cache, both expanded to all rows.
        """
        distinct = {
            row.symbols: Prompt(row.prompt, row.symbols, row.images, row.extent) for row in rows
        }
        done = read(self.model, list(distinct.values()), self.prefixes, self._forward)
        self.prefills += done.passes
        self.prefilled += done.tokens
        if len(distinct) == len(rows):
            return done.logits, done.cache
        place = {symbols: n for n, symbols in enumerate(distinct)}
        index = torch.tensor([place[row.symbols] for row in rows], device=self.model.device)
        done.cache.keep(index)
        return done.logits[index], done.cache

    # one token for every row

    def _step(self) -> list[tuple[int, Reply | EngineError]]:
        batch = self._batch
        assert batch is not None
        assert self._cache is not None
        lags = None if self.chat.sight is None else batch.lags
        logits = self._forward(batch.ids, batch.lengths, self._cache, lags=lags)
        self.steps += 1
        self.decoded += sum(not row.finish for row in batch.rows)
        return self._sample(batch, logits)

    def _forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        cache: DecodingCache | SlotCache,
        images: tuple[tuple[Image, ...], ...] = (),
        lags: Tensor | None = None,
    ) -> Tensor:
        """The logits (B, V) after the last tokens, see `next_logits`."""
        logits = next_logits(self.model, ids, lengths, cache, images=images, lags=lags)
        self.heartbeat()
        return logits

    def _sample(self, batch: Batch, logits: Tensor) -> list[tuple[int, Reply | EngineError]]:
        """The next token of each row; returns the requests that it ends."""
        tokens, chosen, packed = next_tokens(batch, logits, self.chat.first_ids)
        # the one read from the device in a step; ids below 2^24 are exact
        numbers, logprobs = torch.stack([tokens.float(), chosen]).tolist()
        batch.advance(tokens)
        alive = [n for n, row in enumerate(batch.rows) if not row.finish]
        values = [logprobs[n] for n in alive]
        if not all(map(math.isfinite, values)):
            dtype = str(self.model.dtype).removeprefix("torch.")
            check_logprobs(values, self.model_name, dtype)
        finished: list[tuple[int, Reply | EngineError]] = []
        for n in alive:
            row, token = batch.rows[n], int(numbers[n])
            row.tokens.append(token)
            row.logprobs.append(logprobs[n])
            row.support.append(packed[n] if packed else b"")
            row.finish = self._finish_reason(row, token)
            if row.request.progress is not None:
                row.request.progress(self._text(row).rstrip("\ufffd"))  # half a character
            if row.finish:
                finished.append((row.ticket, self._reply(row)))
        return finished

    def _finish_reason(self, row: Decoding, token: int) -> str:
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

    def _text(self, row: Decoding) -> str:
        return self.chat.reply_text(row.prompt, row.tokens, row.request.resume)

    def _reply(self, row: Decoding) -> Reply:
        sampling = row.request.sampling
        return Reply(
            text=self._text(row),
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
