"""The requests that are being decoded together, and what a decoding step needs of them.

Axes: B sequences, U the most tokens that one of them may sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from slm_math.engines.base import Request
from slm_math.engines.kept import Symbols
from slm_math.engines.sampling import (
    choose_likeliest,
    record_support,
    sample_freely,
    sample_tokens,
)
from slm_math.policy.sight import Extent
from slm_math.types import Image


@dataclass
class Decoding:
    """A request that is being decoded."""

    ticket: int
    request: Request
    prompt: tuple[int, ...]
    digest: str  # of the prompt's text and images
    images: tuple[Image, ...]
    extent: Extent  # of the images
    uniform: Any
    budget: int  # the most tokens that may be sampled
    symbols: Symbols  # of the prompt
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    support: list[bytes] = field(default_factory=list)
    start: float = field(default_factory=time.perf_counter)
    finish: str = ""

    @property
    def length(self) -> int:
        """The positions that prompt and reply take in the cache, but for the last token."""
        return len(self.prompt) + self.extent.extra + len(self.tokens) - 1

    @property
    def most(self) -> int:
        """The most positions that it may come to take."""
        return len(self.prompt) + self.extent.extra + self.budget

    @property
    def greedy(self) -> bool:
        return self.request.sampling.temperature == 0

    @property
    def restricted(self) -> bool:
        """Whether top-p, top-k or min-p restricts the support."""
        return self.request.sampling.restricts_support and not self.greedy


class Batch:
    """Requests in the order of the rows of their cache, and their numbers as tensors.

    `ids` (B, 1) the last tokens, which the cache does not hold yet; `lengths` (B,) of the sequences
    with them; `lags` (B,) of their images; `uniform` (B,) and `settings` (4, B) (temperature,
    top-p, top-k, min-p) for the next tokens.
    """

    def __init__(self, rows: Sequence[Decoding], device: torch.device | str) -> None:
        self.rows = list(rows)
        sampling = [row.request.sampling for row in rows]
        budget = max(row.budget for row in rows)
        uniform = torch.zeros(len(rows), budget)
        for own, row in zip(uniform, rows):
            own[: row.budget] = torch.from_numpy(row.uniform)
        settings = [[s.temperature, s.top_p, s.top_k, s.min_p] for s in sampling]
        self.settings = torch.tensor(settings, device=device).T
        self.ids = torch.zeros(len(rows), 1, dtype=torch.long, device=device)
        # the first token that is sampled makes them as long as the prompts and one
        self.lengths = torch.tensor([row.length + 1 for row in rows], device=device)
        self.lags = torch.tensor([row.extent.lag for row in rows], device=device)
        self._uniform = uniform.to(device)
        self._made = torch.zeros(len(rows), 1, dtype=torch.long, device=device)
        self.first = True  # whether no row has a token yet
        self._look()

    def _look(self) -> None:
        self.greedy = {row.greedy for row in self.rows}
        self.restricted = any(row.restricted for row in self.rows)
        self.plain = all(row.request.sampling.temperature == 1 for row in self.rows)

    @property
    def uniform(self) -> Tensor:
        # a row that has ended may stay a while
        place = self._made.clamp(max=self._uniform.shape[1] - 1)
        return self._uniform.gather(1, place)[:, 0]

    def advance(self, tokens: Tensor) -> None:
        """The next tokens (B,) were sampled."""
        self.ids = tokens[:, None]
        self.lengths += 1
        self._made += 1
        self.first = False

    def keep(self, order: Sequence[int]) -> None:
        """Keeps the rows with these indices."""
        self.rows = [self.rows[n] for n in order]
        index = torch.tensor(order, device=self.ids.device)
        self.settings = self.settings[:, index]
        for name in ("ids", "lengths", "lags", "_uniform", "_made"):
            setattr(self, name, getattr(self, name)[index])
        self._look()

    def join(self, other: Batch) -> None:
        """Appends the rows of `other`."""
        self.rows += other.rows
        width = max(self._uniform.shape[1], other._uniform.shape[1])
        for batch in (self, other):
            room = width - batch._uniform.shape[1]
            batch._uniform = torch.nn.functional.pad(batch._uniform, (0, room))
        self.settings = torch.cat([self.settings, other.settings], 1)
        for name in ("ids", "lengths", "lags", "_uniform", "_made"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self._look()


def closed(alive: Sequence[int]) -> list[int]:
    """The rows that stay, of which those from the end fill the gaps before them."""
    stay = set(alive)
    behind = [n for n in alive if n >= len(alive)]
    return [n if n in stay else behind.pop() for n in range(len(alive))]


def next_tokens(
    batch: Batch, logits: Tensor, first_ids: Callable[[str], set[int]]
) -> tuple[Tensor, Tensor, list[bytes]]:
    """The next tokens (B,), their log-probabilities (B,) in nats, and the packed support of each
    row; [] if no row needs it.

    `logits` (B, V) are changed. `first_ids`: the tokens with which a reply may begin that begins
    with a text.
    """
    # whether a row's support is restricted, and has to be recorded
    restricted = [batch.restricted and row.restricted for row in batch.rows]
    for n, row in enumerate(batch.rows if batch.first else ()):
        if not_first := row.request.sampling.not_first:
            logits[n, [id for text in not_first for id in first_ids(text)]] = -torch.inf
            restricted[n] = True
    recorded = [each and row.request.support for each, row in zip(restricted, batch.rows)]
    temperature, top_p, top_k, min_p = batch.settings
    if not batch.restricted and not any(recorded):
        if batch.greedy == {True}:
            return *choose_likeliest(logits), []
        if batch.greedy == {False}:
            free = sample_freely(logits, None if batch.plain else temperature, batch.uniform)
            return *free, []
    tokens, logps, support = sample_tokens(
        logits, temperature, top_p, top_k, min_p=min_p, uniform=batch.uniform
    )
    packed: list[bytes] = []
    if any(recorded):
        which = torch.tensor(recorded, device=logits.device)
        logps, packed = record_support(logps, support, which)
    return tokens, logps.gather(-1, tokens[:, None]).squeeze(-1), packed
