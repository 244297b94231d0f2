"""Reference answers from another file, joined to rows by their id, or by their problem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm_math.data.files import read_rows
from slm_math.data.json_lines import Line, RowError, parse
from slm_math.foreign.paths import first_of
from slm_math.foreign.texts import problem_text, text_key

JOINED = "(joined)"  # the field of a row with what was joined to it
ID = (
    "custom_id", "id", "unique_id", "problem_id", "question_id", "uuid", "doc_id", "idx", "index",
)  # fmt: skip
GOLD = ("answer", "gold", "ground_truth", "expected_answer", "final_answer", "target", "solution")
PROBLEM = ("problem", "question", "query", "input", "prompt")
KEPT = ("answer_type", "choices", "tolerance", "level", "subject", "type")


class Golds:
    """The reference answers of a file, by the ids of its rows and by their problems.

    Raises ValueError for a row without a reference answer, or with the id of another one that has
    another answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        self._problems: dict[str, dict[str, Any]] = {}
        for row in read_rows(path):
            name, gold = first_of(row.fields, GOLD)
            if not name:
                raise ValueError(
                    f"{row.place}: no reference answer: the row has no field {', '.join(GOLD)}"
                )
            _, problem = first_of(row.fields, PROBLEM)
            text = problem_text(problem)
            kept = {key: row.fields[key] for key in KEPT if key in row.fields}
            joined = {"gold": gold, "problem": text, **kept}
            _, id = first_of(row.fields, ID)
            if id is not None and self._rows.setdefault(str(id), joined) != joined:
                raise ValueError(f"{row.place}: the id {id!r} is that of another problem, too")
            if text:
                self._problems.setdefault(text_key(text), joined)

    def joined(self, row: Line | dict[str, Any]) -> Line | dict[str, Any]:
        """The row with what belongs to it, or why there is nothing."""
        try:
            content = row if isinstance(row, dict) else parse(row)
        except RowError as error:
            return error
        found = self._of(content)
        return found if isinstance(found, RowError) else {**content, JOINED: found}

    def _of(self, row: Mapping[str, Any]) -> dict[str, Any] | RowError:
        name, id = first_of(row, ID)
        if name and str(id) in self._rows:
            return self._rows[str(id)]
        _, problem = first_of(row, PROBLEM)
        text = problem_text(problem)
        if text and text_key(text) in self._problems:
            return self._problems[text_key(text)]
        what = f"its {name} is {id!r:.60}" if name else "it has no id"
        return RowError(f"no reference answer in {self.path.name}: {what}")
