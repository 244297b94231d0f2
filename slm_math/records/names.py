"""Texts with numbers, in little more memory than the texts themselves."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

from slm_math.records.places import Places, digest

_RECENT = 1 << 14  # texts whose numbers are found at once


class Names:
    """The different texts among many, each with a number: 0 for the first one that came, and so on.

    A text takes its bytes and 21 to 38 more.
    """

    def __init__(self) -> None:
        self._places = Places()
        self._texts = bytearray()
        self._ends = array("I")  # until they are too large for it
        self._recent: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        return self._texts[start : self._ends[number]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[number] for number in range(len(self)))

    def number(self, text: str) -> int:
        """The number of a text, which is new if it did not come before."""
        known = self._recent.get(text)
        if known is not None:
            return known
        new = len(self._ends)
        number = self._places.setdefault(digest(text), new)
        if number == new:
            self._texts += text.encode("utf-8", "surrogatepass")
            try:
                self._ends.append(len(self._texts))
            except OverflowError:
                self._ends = array("Q", self._ends)
                self._ends.append(len(self._texts))
        if len(self._recent) < _RECENT:
            self._recent[text] = number
        return number

    def get(self, text: str) -> int | None:
        """The number of a text; None if it did not come."""
        return self._places.get(digest(text))

    def numbers_in(self, others: Names) -> np.ndarray:
        """The number of each text among others, (len,) int64; -1 for a text that is not there."""
        if self._ends == others._ends and self._texts == others._texts:  # in the same order
            return np.arange(len(self))
        found = map(others.get, self)
        return np.fromiter((-1 if one is None else one for one in found), np.int64, len(self))

    def digests(self) -> np.ndarray:
        """Digests of all texts, (len,) uint64 in ascending order: equal for equal sets of texts."""
        keys = np.frombuffer(self._places.keys(), np.uint64)
        return np.sort(keys[keys > 0])
