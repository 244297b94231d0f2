"""Which items the batches of an epoch have."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

WINDOW = 16  # batches whose items are sorted by length together


class Plan(Sequence[list[int]]):
    """The item indices of the batches of an epoch. Batches of items of similar length are made when
    they are asked for: they need the lengths of 16 batches, not those of all items.

    Args:
        order: item indices.
        size: items per batch.
        numbers: which batches of that order the epoch has, in the order of the epoch.
        length: the length of an item, by its index; None keeps the order.
    """

    def __init__(
        self,
        order: list[int],
        size: int,
        numbers: list[int],
        length: Callable[[int], int] | None,
    ) -> None:
        self._order = order
        self._size = size
        self._numbers = numbers
        self._length = length
        self._sorted: set[int] = set()  # windows of `_order` that are in order of length

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        start = self._numbers[index] * self._size
        window = WINDOW * self._size
        first = start - start % window
        if self._length is not None and first not in self._sorted:
            inside = sorted(self._order[first : first + window], key=self._length)
            self._order[first : first + window] = inside
            self._sorted.add(first)
        return self._order[start : start + self._size]


def dealt(indices: Sequence[int], ranks: int, length: Callable[[int], int]) -> list[list[int]]:
    """A batch's item indices for each rank, so that all ranks have about equally much: the longest
    first, each to the rank that has the least.
    """
    given: list[list[int]] = [[] for _ in range(ranks)]
    totals = [0] * ranks
    for index in sorted(indices, key=length, reverse=True):
        least = min(range(ranks), key=lambda rank: (totals[rank], len(given[rank])))
        given[least].append(index)
        totals[least] += length(index)
    return given


def weighted_draws(
    weights: Sequence[float], count: int, apart: int, draw: random.Random
) -> list[int]:
    """The indices of `count` draws with probabilities in proportion to `weights`. The same index is
    not among any `apart` draws in a row twice.
    """
    sums = list(accumulate(weights))
    drawn: list[int] = []
    recent: deque[int] = deque(maxlen=apart - 1)
    while len(drawn) < count:
        index = bisect_right(sums, draw.random() * sums[-1])
        if index < len(weights) and weights[index] > 0 and index not in recent:
            drawn.append(index)
            recent.append(index)
    return drawn
