"""Reads prompts, as far as their beginnings are not known yet.

Axes: B prompts, T tokens that are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slm_math.engines.kept import BLOCK, Kept, KeptPrefixes, Symbols, common
from slm_math.engines.prompting import Fitted
from slm_math.images import image_hash
from slm_math.policy.caches import DecodingCache, RowCache, new_cache
from slm_math.policy.sight import Extent, Sight
from slm_math.types import Image

WASTE = 0.2  # of the positions that are read together, at most, with padding
SMALL = 256  # positions; fewer of them cost less than a forward pass of their own

# (ids, lengths, cache, images, lags) -> logits, see `next_logits`
Forward = Callable[..., Tensor]


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what is known of it.

    Args:
        ids: its token ids; an image is one placeholder.
        symbols: the ids with the hashes of its images.
        images: its images.
        extent: what they add to the ids.
        prefix: a sequence that begins like it; None if there is none.
        shared: with so many symbols.
    """

    ids: tuple[int, ...]
    symbols: Symbols
    images: tuple[Image, ...]
    extent: Extent
    prefix: Kept | None = None
    shared: int = 0

    @property
    def new(self) -> int:
        """The number of tokens that have to be read."""
        return len(self.ids) - self.shared

    @property
    def sees(self) -> bool:
        """Whether images have to be read."""
        return bool(self.images) and not self.shared

    @property
    def most(self) -> int:
        """The most tokens that can be read without reading an image."""
        if not self.images:
            return len(self.ids)
        return next(n for n, each in enumerate(reversed(self.symbols)) if isinstance(each, str))

    def known(self, prefixes: KeptPrefixes) -> Prompt:
        """With the longest beginning that is kept and has all its images."""
        found, shared = prefixes.find(self.symbols)
        return self.beginning_with(found, shared)

    def beginning_with(self, found: Kept | None, shared: int) -> Prompt:
        shared = min(shared, len(self.ids) - 1)
        if found is None or len(self.ids) - shared > self.most:
            return self
        return replace(self, prefix=found, shared=shared)


def symbols_of(prompt: Fitted, sight: Sight | None) -> Symbols:
    """The ids of a prompt with the hashes of its images."""
    if not prompt.images or sight is None:
        return prompt.ids
    shown = [image_hash(image.source) for image in reversed(prompt.images)]
    return tuple(
        shown.pop() if shown and each == sight.placeholder_id else each for each in prompt.ids
    )


class Read(NamedTuple):
    """The last logits (B, V) of prompts, their cache, and what reading them took: `tokens` that the
    network read without padding, and its forward passes.
    """

    logits: Tensor
    cache: DecodingCache
    tokens: int
    passes: int


def read(model: Any, prompts: Sequence[Prompt], prefixes: KeptPrefixes, forward: Forward) -> Read:
    """Reads distinct prompts. Their beginnings are taken from those kept, if the layers of the
    model remember keys and values only; what texts among them begin with in common is read once.
    """
    tokens = passes = 0
    if isinstance(new_cache(model), RowCache):
        prompts = [prompt.known(prefixes) for prompt in prompts]
        if found := _begun(model, [p for p in prompts if not p.shared and not p.images], forward):
            begun = prefixes.add(*found)
            tokens, passes = len(begun.symbols), 1
            prompts = [
                p if p.shared or p.images else p.beginning_with(begun, len(begun.symbols))
                for p in prompts
            ]
    logits, order = [], []
    cache = None
    for part in _parts(prompts):
        own = [prompts[n] for n in part]
        made, added, count = (
            _whole(model, own, forward) if own[0].sees else _rest(model, own, forward)
        )
        if cache is None:
            cache = added
        else:
            cache.join(added)
        logits.append(made)
        order += part
        tokens, passes = tokens + count, passes + 1
    assert cache is not None
    if len(logits) == 1 and order == sorted(order):
        return Read(logits[0], cache, tokens, passes)
    back = torch.tensor(order, device=logits[0].device).argsort()
    cache.keep(back)
    return Read(torch.cat(logits)[back], cache, tokens, passes)


def _begun(model: Any, prompts: Sequence[Prompt], forward: Forward) -> tuple[Symbols, Any] | None:
    """What prompts begin with in common, with its keys and values; None if that is too short."""
    if len(prompts) < 2:
        return None
    # the first and the last in order differ the earliest
    ids = [prompt.ids for prompt in prompts]
    shared = min(common(min(ids), max(ids)), min(map(len, ids)) - 1)
    if shared < BLOCK or shared * (len(prompts) - 1) < SMALL:
        return None
    begin = ids[0][:shared]
    cache = new_cache(model)
    assert isinstance(cache, RowCache)
    forward(torch.tensor([begin]), torch.tensor([shared]), cache)
    return begin, cache.row(0, shared)


def _parts(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Indices of prompts that are read together, such that little of it is padding; the longest
    come first.
    """
    part: list[int] = []
    real = 0
    for n in sorted(range(len(prompts)), key=lambda n: (not prompts[n].sees, -prompts[n].new)):
        prompt = prompts[n]
        if part:
            first = prompts[part[0]]
            padded = (len(part) + 1) * first.new
            waste = padded - real - prompt.new
            # rows without images have padding where they have no more tokens
            fits = prompt.sees or not prompt.images or first.new <= prompt.most
            alike = first.sees == prompt.sees and fits
            if not alike or waste > WASTE * padded + SMALL:
                yield part
                part, real = [], 0
        part.append(n)
        real += prompt.new
    yield sorted(part)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, T), padded on the left."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for own, row in zip(ids, rows):
        own[width - len(row) :] = torch.tensor(row)
    return ids


def _whole(
    model: Any, prompts: Sequence[Prompt], forward: Forward
) -> tuple[Tensor, DecodingCache, int]:
    """Prompts of which some show images, from their beginning."""
    cache = new_cache(model)
    ids = [prompt.ids for prompt in prompts]
    images = tuple(prompt.images for prompt in prompts)
    logits = forward(_padded(ids), torch.tensor(list(map(len, ids))), cache, images=images)
    return logits, cache, sum(len(prompt.ids) + prompt.extent.extra for prompt in prompts)


def _rest(
    model: Any, prompts: Sequence[Prompt], forward: Forward
) -> tuple[Tensor, DecodingCache, int]:
    """The last tokens of prompts whose earlier ones are known. In the place of padding, rows with
    less that is new read some of their known tokens again.
    """
    width = max(prompt.new for prompt in prompts)
    ids = [prompt.ids[-width:] for prompt in prompts]
    lengths = [len(prompt.ids) + prompt.extent.extra for prompt in prompts]
    before = [
        (prompt.prefix.states if prompt.prefix else (), length - len(own))
        for prompt, length, own in zip(prompts, lengths, ids)
    ]
    cache = new_cache(model, before)
    lags = [prompt.extent.lag for prompt in prompts]
    logits = forward(
        _padded(ids),
        torch.tensor(lengths),
        cache,
        lags=torch.tensor(lags) if any(lags) else None,
    )
    return logits, cache, sum(map(len, ids))
