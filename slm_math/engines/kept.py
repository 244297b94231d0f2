"""The keys and values of sequences that ended, for prompts that begin like them: the next turn of a
conversation, or another prompt after the same system prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from slm_math.policy.caches import States

BLOCK = 16  # tokens; a shorter common beginning is computed again

# token ids, with the hash of an image in the place of its placeholder
Symbols: TypeAlias = tuple[int | str, ...]


@dataclass(frozen=True)
class Kept:
    """A sequence and its keys and values."""

    symbols: Symbols
    states: States

    @property
    def bytes(self) -> int:
        return sum(each.nbytes for pair in self.states if pair is not None for each in pair)


class KeptPrefixes:
    """Sequences whose keys and values are kept, at most `limit` bytes of them: those that were used
    least recently go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._entries: OrderedDict[Symbols, Kept] = OrderedDict()
        # by a hash of all blocks up to one: the sequence that came last with these
        self._blocks: dict[int, Kept] = {}

    def clear(self) -> None:
        self._entries.clear()
        self._blocks.clear()
        self.bytes = 0

    def find(self, symbols: Symbols) -> tuple[Kept | None, int]:
        """The sequence that shares the longest beginning, of so many symbols; (None, 0) if none
        shares a block.
        """
        found = None
        for block in _blocks(symbols):
            if block not in self._blocks:
                break
            found = self._blocks[block]
        if found is None:
            return None, 0
        shared = common(found.symbols, symbols)
        if shared < BLOCK:  # two hashes were equal
            return None, 0
        self._entries.move_to_end(found.symbols)
        return found, shared

    def add(self, symbols: Symbols, states: States) -> Kept:
        """Keeps a sequence, in place of one that it continues."""
        new = Kept(symbols, states)
        before, shared = self.find(symbols)
        if new.bytes > self.limit or len(symbols) < BLOCK or shared == len(symbols):
            return new
        if before is not None and shared == len(before.symbols):
            self._drop(before)
        self._entries[symbols] = new
        self._blocks |= dict.fromkeys(_blocks(symbols), new)
        self.bytes += new.bytes
        while self.bytes > self.limit:
            self._drop(next(iter(self._entries.values())))
        return new

    def _drop(self, entry: Kept) -> None:
        del self._entries[entry.symbols]
        self.bytes -= entry.bytes
        for block in _blocks(entry.symbols):
            if self._blocks.get(block) is entry:
                del self._blocks[block]


def common(one: Sequence[object], other: Sequence[object]) -> int:
    """The number of equal symbols at the beginning of two sequences."""
    if one[: len(other)] == other[: len(one)]:
        return min(len(one), len(other))
    return next(n for n, (a, b) in enumerate(zip(one, other)) if a != b)


def _blocks(symbols: Symbols) -> Iterator[int]:
    """For each whole block a hash of all symbols up to its end."""
    value = 0
    for end in range(BLOCK, len(symbols) + 1, BLOCK):
        value = hash((value, symbols[end - BLOCK : end]))
        yield value
