"""A table from digests to numbers in a fifth of a dict's memory, for files of any length."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from operator import mul

_MASK = (1 << 64) - 1
_MOST = 0.7  # share of the places that are taken before the table grows


def digest(key: Hashable) -> int:
    """64 bits of a hash of texts (numbers have poor ones), another one in every process, never 0.
    Two of a million keys have the same one with a probability of 3e-8.
    """
    return hash(key) & _MASK or 1


class Places:
    """A mapping from digests to whole numbers below 2**32, in 17 to 34 bytes each."""

    def __init__(self) -> None:
        self._size = 0
        self._keys = array("Q", bytes(8 * 1024))
        self._most = int(_MOST * 1024)
        self._values = array("I", bytes(4 * 1024))

    def __len__(self) -> int:
        return self._size

    @property
    def total(self) -> int:
        """A sum over all digests, 0 without any: tables with other digests very likely have another
        one.
        """
        return sum(map(mul, self._keys, self._keys))

    def keys(self) -> array[int]:
        """All digests, in the order of their places, with a 0 for every free place."""
        return self._keys

    def get(self, key: int) -> int | None:
        place = self._place(key)
        return self._values[place] if self._keys[place] else None

    def set(self, key: int, value: int) -> None:
        if self.setdefault(key, value) != value:
            self._values[self._place(key)] = value

    def setdefault(self, key: int, value: int) -> int:
        """The number of a key, which is `value` if it had none."""
        keys = self._keys  # as `_place`, without a call: files have millions of keys
        last = len(keys) - 1
        place = key & last
        while known := keys[place]:
            if known == key:
                return self._values[place]
            place = (place + 1) & last
        if self._size >= self._most:
            self._grow()
            place = self._place(key)
        self._keys[place], self._values[place] = key, value
        self._size += 1
        return value

    def _place(self, key: int) -> int:
        """Where a key is, or would be."""
        keys = self._keys
        last = len(keys) - 1
        place = key & last
        while keys[place] and keys[place] != key:
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        old = zip(self._keys, self._values)
        self._keys = keys = array("Q", bytes(16 * len(self._keys)))
        self._values = values = array("I", bytes(8 * len(self._values)))
        self._most = int(_MOST * len(keys))
        last = len(keys) - 1
        for key, value in old:
            if key:
                place = key & last
                while keys[place]:
                    place = (place + 1) & last
                keys[place], values[place] = key, value
