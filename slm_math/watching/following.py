"""A file that another process writes: only what was appended is read."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

PIECE = 1 << 22  # bytes that are read at a time
TAIL = 64  # bytes before the end that must still be there


class Line(NamedTuple):
    """A complete line without its end, and the byte at which it begins."""

    at: int
    text: bytes


class FollowedFile:
    """The complete lines of a file, each once; a half-written last line waits for its rest.

    A file that was replaced (another inode), cut, or rewritten begins anew: `generation` grows, and
    all its lines come again. A missing file is an empty one. `bytes_read` counts all that was ever
    read of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.bytes_read = 0
        self.end = 0  # of the lines that were read
        self.size = 0  # at the last look
        self.written = 0.0  # seconds since 1970, at the last look
        self._tail = b""
        self._inode = (0, 0)
        self._whole = (0, 0)  # size and time of the file when it was last read to its end

    def lines(self, most: int = PIECE) -> list[Line]:
        """The next lines, of about `most` bytes; [] once there are no more."""
        try:
            stat = self.path.stat()
        except OSError:
            self._begin_anew((0, 0))
            self.size = 0
            return []
        inode, stamp = (stat.st_dev, stat.st_ino), (stat.st_size, stat.st_mtime_ns)
        self.size, self.written = stat.st_size, stat.st_mtime
        if inode != self._inode or stat.st_size < self.end:
            self._begin_anew(inode)
        if stamp == self._whole:
            return []
        with self.path.open("rb") as file:
            file.seek(self.end - len(self._tail))
            if self._read(file, len(self._tail)) != self._tail:
                self._begin_anew(inode)
                file.seek(0)
            text = self._whole_lines(file, most)
        if text is None:
            self._whole = stamp
            return []
        lines = []
        for line in text.split(b"\n"):
            lines.append(Line(self.end, line))
            self.end += len(line) + 1
        self._tail = (self._tail + text[-TAIL:] + b"\n")[-TAIL:]
        if self.end == stat.st_size:
            self._whole = stamp
        return lines

    @property
    def behind(self) -> int:
        """The bytes that were not read yet."""
        return max(self.size - self.end, 0) if self._whole[0] != self.size else 0

    def rewind(self) -> None:
        """All lines come again."""
        self.end, self._tail, self._whole = 0, b"", (0, 0)

    def line_at(self, at: int) -> bytes:
        """One of the lines, by the byte at which it begins."""
        with self.path.open("rb") as file:
            file.seek(at)
            return file.readline()

    def _whole_lines(self, file: BinaryIO, most: int) -> bytes | None:
        """The next bytes up to the end of a line, without that; None if no line ends."""
        pieces = []
        while piece := self._read(file, most):
            end = piece.rfind(b"\n")
            pieces.append(piece if end < 0 else piece[:end])
            if end >= 0:
                return b"".join(pieces) if len(pieces) > 1 else pieces[0]
        return None

    def _read(self, file: BinaryIO, most: int) -> bytes:
        read = file.read(most)
        self.bytes_read += len(read)
        return read

    def _begin_anew(self, inode: tuple[int, int]) -> None:
        self.generation += bool(self.end)
        self._inode = inode
        self.rewind()


class FollowedFiles:
    """The files of a folder that match some patterns, and what is known of their lines.

    Once a file began anew, all that was known is forgotten, and all lines of all files come again;
    `generation` counts how often.
    """

    def __init__(self, root: Path, *patterns: str) -> None:
        self.root = root
        self.generation = 0
        self.files: dict[Path, FollowedFile] = {}
        self._patterns = patterns

    def take(self, file: FollowedFile, lines: list[Line]) -> None:
        """Adds lines of a file to what is known."""
        raise NotImplementedError

    def forget(self) -> None:
        """Forgets all lines."""
        raise NotImplementedError

    def poll(self, most: int = PIECE) -> bool:
        """Reads about `most` bytes of each file; returns whether there was anything to read."""
        for path in (path for each in self._patterns for path in sorted(self.root.glob(each))):
            if path not in self.files:
                self.files[path] = FollowedFile(path)
        found = False
        for file in self.files.values():
            generation = file.generation
            lines = file.lines(most)
            if file.generation != generation:
                self.begin_anew()
                return True
            self.take(file, lines)
            found = found or bool(lines)
        return found

    def begin_anew(self) -> None:
        self.generation += 1
        self.forget()
        for file in self.files.values():
            file.rewind()

    @property
    def bytes_read(self) -> int:
        return sum(file.bytes_read for file in self.files.values())

    @property
    def behind(self) -> int:
        return sum(file.behind for file in self.files.values())

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())

    @property
    def written(self) -> float:
        """When any of the files changed last, in seconds since 1970; 0 without files."""
        return max((file.written for file in self.files.values()), default=0.0)
