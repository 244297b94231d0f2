"""Rows of a file of saved completions in any usual format, as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slm_math.data.json_lines import Line, dump
from slm_math.foreign.containers import rows_of
from slm_math.foreign.joining import Golds


def rows(path: Path, golds: Golds | None = None) -> Iterator[tuple[int, Line, int]]:
    """As `rows_of`, with every object as a line, in which dates and the like are text.

    With `golds`, each row has the reference answer that belongs to it.
    """
    for number, row, end in rows_of(path):
        joined = row if golds is None else golds.joined(row)
        yield number, dump(joined) if isinstance(joined, dict) else joined, end
