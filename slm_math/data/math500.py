"""MATH-500: the 500 problems of MATH that are commonly tested on (Lightman et al. 2023).

A row of the published file looks like this (an invented one):

    {"problem": "Compute $3^4 - 2^5$.", "solution": "$81 - 32 = \\\\boxed{49}$.", "answer": "49",
     "subject": "Prealgebra", "level": 1, "unique_id": "test/prealgebra/17.json"}
"""

from __future__ import annotations

from slm_math.answers import gold_answer
from slm_math.data.base import NoProblems, Source, Split
from slm_math.data.files import FileRow, HubFile
from slm_math.data.published import checked_limit, existing_path, published_rows
from slm_math.types import Problem, Task

FILE = HubFile("HuggingFaceH4/MATH-500", "test.jsonl", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be")


class MATH500(Source):
    """500 problems of MATH to test on, with level and subject; it has no training split.

    Args:
        path: the published `test.jsonl` or a folder that holds it (JSON and Parquet work, too). By
            default `HuggingFaceH4/MATH-500` from the hub.
        limit: keep only the first problems.
    """

    name = "math500"

    def __init__(self, path: str | None = None, limit: int | None = None) -> None:
        self.path, self.limit = existing_path(path), checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        if split != "test":
            raise NoProblems(f"MATH-500 is a test set; it has no {split} split")
        rows = published_rows(self.path, "test", FILE, any_name=True)
        tasks = [_math500_task(f"{self.name}/test/{i}", row) for i, row in enumerate(rows)]
        return tasks[: self.limit]

    def hub_files(self) -> list[HubFile]:
        return [] if self.path else [FILE]


def _math500_task(id: str, row: FileRow) -> Task:
    solution = row.text("solution") if row.fields.get("solution") else None
    problem = Problem(id, row.text("problem"), tags=math_tags(row))
    return Task(problem, gold_answer(row.text("answer")), solution)


def math_tags(row: FileRow) -> dict[str, str]:
    """The level ("1" to "5") and the subject of a row of MATH or MATH-500."""
    level, subject = row.fields.get("level"), row.fields.get("subject") or row.fields.get("type")
    tags = {} if level is None else {"level": str(level).removeprefix("Level ")}
    return tags | ({"subject": str(subject)} if subject else {})
