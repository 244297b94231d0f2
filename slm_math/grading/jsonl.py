"""JSON lines that anybody may have written: whatever is on a line, the others can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_LINE = 64 << 20  # bytes; a longer line would be held in memory several times


class RowError(ValueError):
    """One row that cannot be read; the others can."""


def lines(path: Path) -> Iterator[tuple[int, bytes | None, int]]:
    """(number, content, offset of its end) of the lines that are not blank; content None for one
    over `MAX_LINE`.
    """
    with path.open("rb") as file:
        number, end = 0, 0
        while line := file.readline(MAX_LINE + 1):
            number, end, whole = number + 1, end + len(line), len(line) <= MAX_LINE
            part = line
            while not whole and part and not part.endswith(b"\n"):
                part = file.readline(MAX_LINE)
                end += len(part)
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line if whole else None, end


def parse(line: bytes | None) -> dict[str, Any]:
    """The object on a line."""
    if line is None:
        raise RowError(f"longer than {MAX_LINE >> 20} MiB")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8 text (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON ({error.msg}, column {error.colno})") from error
    # brackets in brackets, or a number of thousands of digits
    except (RecursionError, ValueError) as error:
        raise RowError("JSON that is nested too deeply, or holds too long a number") from error
    if not isinstance(row, dict):
        raise RowError("not a JSON object")
    return row


def dump(row: dict[str, Any]) -> bytes:
    """An object as one line."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair is not text, but JSON can spell it
        return json.dumps(row).encode() + b"\n"
