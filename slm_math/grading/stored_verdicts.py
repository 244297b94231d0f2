"""The verdicts that the rows of a file carry, for `--verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slm_math.data.json_lines import RowError
from slm_math.foreign.joining import Golds
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
    """Raises ValueError if the first row carries several verdicts, and none is named."""
    number, row = first_row(path, golds)
    names = [] if fields.verdict is not None else stored_names(row, number, fields)
    if fields.shape is not None and len(names) > 1:
        raise ValueError(
            f"{path}, line {number}: the row has several verdicts ({', '.join(names)}): name one "
            f"with --verdict {names[0]}"
        )
