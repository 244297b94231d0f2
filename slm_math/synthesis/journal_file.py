"""The file of a journal: lines that a kill leaves whole, found by their digest."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = {"journal": 1}  # the first line
FSYNC = 1.0  # seconds: the most that a machine loses with its power
CHUNK = 1 << 16  # bytes


class JournalFile:
    """Appends JSON objects with a field `digest` to a file, and finds them again.

    A line is handed to the system as a whole and at once, so that a killed process loses none; an
    incomplete last line, left by a kill in the middle of a write, is removed. Lines reach the disk
    within a second or two while others follow, and all of them with `close`. Memory holds digests
    and positions, not what was answered. The file is locked: only one process may write to it.

    Raises ValueError for a file that is not a journal, or that another process writes to.
    """

    def __init__(self, path: Path, fields: Collection[str]) -> None:
        self.path, self._fields = path, {"digest", *fields}
        self._where: dict[bytes, int] = {}  # digest -> where its first line begins
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _locked(path)
        self._synced = time.monotonic()
        self._end = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """All lines, once, before anything is asked of the file. Removes an incomplete last one."""
        rest = b""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    rest = line
                    break
                data = self._parsed(line, number)
                if number > 1:
                    self._where.setdefault(bytes.fromhex(data["digest"]), self._end)
                    yield data
                self._end += len(line)
        if not self._end and not json.dumps(FORMAT).encode().startswith(rest):
            self._parsed(rest, 1)
        if rest:
            self._file.truncate(self._end)
        if not self._end:
            self._write(FORMAT)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._where

    def __getitem__(self, digest: bytes) -> dict[str, Any]:
        """The first line with a digest."""
        where, line = self._where[digest], bytearray()
        while b"\n" not in line[-CHUNK:]:
            line += os.pread(self._file.fileno(), CHUNK, where + len(line))
        return json.loads(bytes(line[: line.index(b"\n")]))

    def add(self, digest: bytes, data: Mapping[str, Any]) -> None:
        """Appends a line."""
        self._where.setdefault(digest, self._end)
        self._write({"digest": digest.hex(), **data})

    def close(self) -> None:
        """Writes everything to the disk and unlocks the file."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _write(self, data: Mapping[str, Any]) -> None:
        line = json.dumps(data).encode() + b"\n"
        if self._file.write(line) != len(line):
            self._file.truncate(self._end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._end += len(line)
        if time.monotonic() - self._synced >= FSYNC:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            data = json.loads(line)
            if number == 1 and data != FORMAT:
                raise ValueError(f"a journal of this version begins with {json.dumps(FORMAT)}")
            if number > 1:
                bytes.fromhex(data["digest"])
                missing = sorted(self._fields - set(data))
                if missing:
                    raise ValueError(f"it has no {', '.join(missing)}")
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{self.path}, line {number}: not a line of a journal ({error}): choose another "
                "file, or remove this line"
            ) from None
        return data


def _locked(path: Path) -> BinaryIO:
    """The file, locked by this process; each write goes to the system at once."""
    file = path.open("a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"{path} is being written by another process: wait for its end, or choose another file"
        ) from None
    except OSError:  # a file system without locks
        pass
    return file  # type: ignore[return-value]
