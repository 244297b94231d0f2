"""The usual names of columns: which one has the problem, the answer, a solution, the images."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from slm_math.data.files import FileRow

PROBLEM = ("problem", "question", "instruction", "query", "prompt", "input")
ANSWER = (
    "answer",
    "gold",
    "ground_truth",
    "expected_answer",
    "final_answer",
    "reference_answer",
    "target",
)
SOLUTION = ("solution", "output", "response", "completion", "rationale")
IMAGES = ("images", "image")
ID = ("id", "unique_id", "problem_id", "question_id")


def question_of(row: FileRow, column: str) -> str:
    """The text of a problem; below an instruction stands its input."""
    text = row.text(column)
    has_input = column == "instruction" and row.fields.get("input")
    return f"{text}\n{row.text('input')}" if has_input else text


def usual_column(names: Collection[str], usual: Sequence[str], option: str) -> str | None:
    """The one column with a usual name; None if there is none.

    Raises ValueError if several have one: nobody can tell which is meant.
    """
    found = [name for name in usual if name in names]
    if len(found) > 1:
        raise ValueError(
            f"the columns {' and '.join(found)} may both be the {option}: name one with "
            f"{option}: {found[0]}"
        )
    return found[0] if found else None
