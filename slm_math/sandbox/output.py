"""What is kept of the output of a program: the beginning and the end, however long it is."""

from __future__ import annotations

import codecs

from slm_math.shortening import left_out

_WITHIN_LETTER = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that do not begin a character


class Kept:
    """Keeps the first and the last of all bytes that are added, `most` together.

    `size` is the number of bytes added so far. The memory needed does not grow with it.
    """

    def __init__(self, most: int, data: bytes = b"") -> None:
        self.size = 0
        self._first, self._last = most - most // 2, most // 2
        self._begin, self._end = bytearray(), bytearray()
        self._gone = 0  # characters that are not kept
        self.add(data)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = self._first - len(self._begin)
        self._begin += data[:room]
        self._end += data[room:]
        if (surplus := len(self._end) - self._last) > 0:
            self._gone += _characters(self._end[:surplus])
            del self._end[:surplus]

    @property
    def text(self) -> str:
        """The whole text if it is short, else its beginning, how much is left out, and its end."""
        begin, end = bytes(self._begin), bytes(self._end)
        if self.size == len(begin) + len(end):
            return (begin + end).decode("utf-8", "replace")
        # a character that is divided counts as left out
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        first, last = decoder.decode(begin), end.lstrip(_WITHIN_LETTER).decode("utf-8", "replace")
        return first + left_out(self._gone + bool(decoder.getstate()[0])) + last


def _characters(data: bytes | bytearray) -> int:
    return len(data.translate(None, _WITHIN_LETTER))
