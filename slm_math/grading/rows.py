"""Rows of a file of saved completions in any usual format, as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slm_math.data.formats import records
from slm_math.data.json_lines import Line, dump


def rows(path: Path) -> Iterator[tuple[int, Line, int]]:
    """As `records`, with every object as a line, in which dates and the like are text."""
    for number, row, end in records(path):
        yield number, dump(row) if isinstance(row, dict) else row, end
