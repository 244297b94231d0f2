"""Rows of a file of saved completions in any usual format, as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slm_math.data.json_lines import Line, RowError, dump, parse
from slm_math.evaluation.plain import plain
from slm_math.foreign.containers import rows_of
from slm_math.foreign.joining import Golds


def rows(
    path: Path, golds: Golds | None = None, filter: str | None = None
) -> Iterator[tuple[int, Line, int]]:
    """As `rows_of`, with every object as a line, in which dates and the like are text.

    With `golds`, each row has the reference answer that belongs to it; with `filter`, there are
    only the rows of this filter of lm-eval.

    Raises ValueError, at the end of the file, for a filter that no row has.
    """
    others: dict[str, None] = {}
    found = False
    for number, row, end in rows_of(path):
        if filter is not None:
            name = filter_of(row)
            if name is not None and name != filter:
                others[name] = None
                continue
            found = found or name is not None
        joined = row if golds is None else golds.joined(row)
        yield number, dump(joined) if isinstance(joined, dict) else joined, end
    if filter is not None and not found:
        there = f"its filters are {', '.join(map(plain, others))}" if others else "it has none"
        raise ValueError(f"{path} has no rows of a filter {plain(filter)}: {there}")


def filter_of(row: object) -> str | None:
    """The filter of lm-eval that a row belongs to, if any."""
    try:
        read = row if isinstance(row, dict) else parse(row)  # pyright: ignore[reportArgumentType]
    except RowError:
        return None  # reported when it is graded
    name = read.get("filter") if "doc_id" in read else None
    return name if isinstance(name, str) else None
