"""The verdicts that the rows of a file carry, for `--verify`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from slm_math.data.json_lines import RowError
from slm_math.evaluation.plain import plain
from slm_math.foreign.joining import Golds
from slm_math.foreign.paths import MISSING, field_paths, lookup
from slm_math.grading.completions import cases
from slm_math.grading.fields import VERDICT, Fields
from slm_math.grading.saved import first_row


def stored_names(row: dict[str, Any], number: int, fields: Fields) -> list[str]:
    """The names of the verdicts that a row carries; also of those that are none."""
    if fields.shape is None:
        return [name for name in VERDICT if name in row]
    try:
        found = [name for one in cases(row, number, fields) for name, _ in one.verdicts]
    except RowError:
        return []
    return list(dict.fromkeys(found))


def check_stored(path: Path, fields: Fields, golds: Golds | None) -> None:
    """Raises ValueError unless the first row carries one verdict, or the named one."""
    number, row = first_row(path, golds)
    if fields.verdict is not None:
        if fields.shape is None and lookup(row, fields.verdict) is MISSING:
            there = plain(", ".join(islice(field_paths(row), 20)), 300)
            raise ValueError(
                f"{path}, line {number}: field {fields.verdict!r} is missing; fields there: {there}"
            )
        return
    names = stored_names(row, number, fields)
    if fields.shape is not None and len(names) > 1:
        raise ValueError(
            f"{path}, line {number}: the row has several verdicts ({', '.join(names)}): name one "
            f"with --verdict {names[0]}"
        )
