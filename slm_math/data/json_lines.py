"""JSON lines from any source: a bad line does not prevent reading the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

MAX_LINE = 64 << 20  # bytes; a longer line would be held in memory several times


class RowError(ValueError):
    """A row that cannot be read; the other rows can."""


Line = bytes | RowError  # an error stands in the place of a row that cannot be had


def lines(path: Path) -> Iterator[tuple[int, Line, int]]:
    """(number, content, offset of its end in bytes) of every line of a file that is not blank."""
    with path.open("rb") as file:
        yield from lines_of(file)


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, Line, int]]:
    """As `lines`, of an open file; a line over `MAX_LINE` is an error in its place."""
    number, end = 0, 0
    while line := file.readline(MAX_LINE + 1):
        number, end, complete = number + 1, end + len(line), len(line) <= MAX_LINE
        part = line
        while not complete and part and not part.endswith(b"\n"):
            part = file.readline(MAX_LINE)
            end += len(part)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            too_long = RowError(f"longer than {MAX_LINE >> 20} MiB")
            yield number, line if complete else too_long, end


def parse(line: Line) -> dict[str, Any]:
    """The JSON object on a line. Raises RowError."""
    if isinstance(line, RowError):
        raise line
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 text (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON ({error.msg}, column {error.colno})") from error
    # deeply nested brackets, or a number with thousands of digits
    except (RecursionError, ValueError) as error:
        raise RowError("JSON that is nested too deeply, or has too long a number") from error
    if not isinstance(row, dict):
        raise RowError("not a JSON object")
    return row


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)  # `dumps` would make one each time


def quoted(text: str) -> str:
    """A text as JSON that UTF-8 can hold: of half of a surrogate pair, only escaped."""
    return _ENCODER.encode(text) if text.isascii() or encodable(text) else json.dumps(text)


def encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def dump(row: dict[str, Any]) -> bytes:
    """An object as one line of JSON; dates and other values of tables become text."""
    try:
        return _ENCODER.encode(row).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can only escape
        return json.dumps(row, default=str).encode() + b"\n"
