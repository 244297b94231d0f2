"""The records of a claim in memory, as compressed lines that are read when they are asked for."""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import overload

from slm_math.records.encoding import from_json
from slm_math.records.record import Record

_BLOCK = 256 << 10  # bytes of lines that are compressed together


class PackedRecords(Sequence[Record]):
    """Records as the lines of which they were read, since they take a multiple of that in memory,
    and the lines of a stranger may be short and many.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._firsts: list[int] = []  # the place of the first record of each block
        self._open: list[bytes] = []  # lines that are in no block yet
        self._size = self._length = 0
        self._last: tuple[int, list[bytes]] = -1, []  # the block that was read last

    def append(self, line: bytes) -> None:
        """Adds the line of a record."""
        self._open.append(line)
        self._size += len(line)
        self._length += 1
        if self._size >= _BLOCK:
            self._firsts.append(self._length - len(self._open))
            self._blocks.append(zlib.compress(b"".join(self._open), 1))
            self._open, self._size = [], 0

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(place)
        packed = len(self) - len(self._open)
        if place >= packed:
            return parsed_record(self._open[place - packed])
        block = bisect_right(self._firsts, place) - 1
        return parsed_record(self._lines(block)[place - self._firsts[block]])

    def __iter__(self) -> Iterator[Record]:
        for block in self._blocks:
            yield from map(parsed_record, zlib.decompress(block).splitlines(True))
        yield from map(parsed_record, self._open)

    def _lines(self, block: int) -> list[bytes]:
        if self._last[0] != block:
            self._last = block, zlib.decompress(self._blocks[block]).splitlines(True)
        return self._last[1]


def parsed_record(line: bytes) -> Record:
    """The record of a line."""
    return from_json(json.loads(line.decode("utf-8")))
