"""Random draws of generated data, many of which are small."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
_POOL = 21  # of so few, `random` draws from a list of those that are left


class Draw(random.Random):
    """`random.Random`, whose choices and small samples take half the time: the same, from the same
    numbers of the generator.
    """

    def choice(self, seq: Any) -> Any:
        size, bits = len(seq), self.getrandbits
        if not size:
            return super().choice(seq)  # says what is wrong
        width = size.bit_length()
        place = bits(width)
        while place >= size:
            place = bits(width)
        return seq[place]

    def some(self, items: Sequence[T], number: int) -> list[T]:
        """`sample` of at most 21 items."""
        left, bits = len(items), self.getrandbits
        if left > _POOL or number > left:
            return self.sample(items, number)
        pool, drawn = list(items), []
        for _ in range(number):
            width = left.bit_length()
            place = bits(width)
            while place >= left:
                place = bits(width)
            left -= 1
            drawn.append(pool[place])
            pool[place] = pool[left]
        return drawn
