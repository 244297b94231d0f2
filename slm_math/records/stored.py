"""The records of a file, read when they are asked for."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any, overload

from slm_math.records.encoding import from_json
from slm_math.records.places import Places, digest
from slm_math.records.record import Record

Key = tuple[str, int]
# how a line begins that this program wrote: what identifies its record, without parsing all of it
_BEGIN = re.compile(rb'\{"schema": 2, "id": "([^"\\]*)", "sample": (\d{1,9}), "')


class StoredRecords(Sequence[Record]):
    """The complete records of a file: the newest of every sample, in the order in which samples
    first occur. In memory is where each one is, in 25 to 42 bytes; it is parsed at each access.
    Only with `by_key` are records found, and added, by their keys; without, 8 bytes are kept.

    The file stays open: what another process puts in its place later changes nothing.

    Raises ValueError with file and line for a line that is not a record, or a record of an unknown
    schema version, here or at the access.
    """

    def __init__(self, path: Path, by_key: bool = True) -> None:
        self.path = path
        self.lines = 0  # of the file, with older records of a sample; they end at `end`
        self._file = path.open("rb")
        self._offsets = array("Q")
        self._places = Places()  # of samples among the offsets
        self._last: tuple[int, Record] | None = None
        self.end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self.lines += 1
            try:
                key = _key(line)
            except Exception:
                key = _named(path, self.lines, line, _key)
            self._note(key, self.end)
            self.end += len(line)
        self._by_key = by_key
        if not by_key:
            self._places = Places()

    def _note(self, key: Key, offset: int) -> None:
        place = self._places.setdefault(digest(key), len(self._offsets))
        if place == len(self._offsets):
            self._offsets.append(offset)
        else:
            self._offsets[place] = offset

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place += len(self) if place < 0 else 0
        if self._last is not None and self._last[0] == place:
            return self._last[1]
        return self._read(self._offsets[place])

    def __iter__(self) -> Iterator[Record]:
        return map(self.__getitem__, range(len(self)))

    def __contains__(self, key: object) -> bool:
        """Whether there is a record of this key: problem id and sample number. Raises TypeError
        for records without keys, of which nobody knows.
        """
        if not self._by_key:
            raise TypeError("these records were read without their keys: read them with by_key")
        return self._places.get(digest(key)) is not None

    def _read(self, offset: int) -> Record:
        self._file.seek(offset)
        line = self._file.readline()
        try:
            return _parsed(line)
        except Exception:
            self._file.seek(0)
            number = self._file.read(offset).count(b"\n") + 1
            return _named(self.path, number, line, _parsed)

    def where(self, holds: Callable[[Record], bool]) -> StoredRecords:
        """Those of the records for which something `holds`."""
        some = copy(self)  # of the same open file
        some._offsets, some._places, some._last = array("Q"), Places(), None
        some._by_key = True
        for record, offset in zip(self, self._offsets):
            if holds(record):
                some._note(record.key, offset)
        return some

    def written(self, record: Record, size: int) -> None:
        """Notes a record that was appended to the file, in `size` bytes."""
        self._note(record.key, self.end)
        self._last = self._places.get(digest(record.key)) or 0, record
        self.end += size
        self.lines += 1

    def take(self, other: StoredRecords, key: Key) -> None:
        """Adds the record of a key that other records of the same file have."""
        place = other._places.get(digest(key))
        assert place is not None
        self._note(key, other._offsets[place])
        self._last = None


def _named(path: Path, number: int, line: bytes, read: Callable[[bytes], Any]) -> Any:
    """What `read` makes of a line. Raises ValueError with file and line."""
    try:
        return read(line)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}, line {number}: not an evaluation record ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from error


def _parsed(line: bytes) -> Record:
    return from_json(json.loads(line.decode("utf-8")))


def _key(line: bytes) -> Key:
    begin = _BEGIN.match(line)
    if begin is not None:
        return begin[1].decode("utf-8"), int(begin[2])
    return _parsed(line).key
