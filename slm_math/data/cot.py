"""CoT: worked solutions that a teacher model wrote, to imitate.

A row looks like this (an invented one; only the first four fields are read as text):

    {"question": "What is 15 % of 80?", "ground_truth": "12", "correct": true,
     "solution": "0.15 * 80 = 12, so the answer is \\\\boxed{12}.",
     "dataset": "gsm8k", "teacher_model": "some-teacher-7b"}
"""

from __future__ import annotations

from slm_math.answers import gold_answer
from slm_math.data.base import NoProblems, Source, Split
from slm_math.data.files import FileRow, read_rows
from slm_math.data.published import checked_fraction, checked_limit, existing_path, split_part
from slm_math.types import Problem, Task


class CoT(Source):
    """Worked solutions of a teacher model: JSONL with `question`, `ground_truth`, `solution` and
    optionally `correct`.

    A problem of GSM8K or MATH is held out for validation here exactly if it is held out there.

    Args:
        path: a file, or a folder whose .jsonl files are read in the order of their names.
        only_correct: leave out rows with `correct: false`.
        validation: the share of the problems that is held out for validation.
        limit: keep only the first problems of each split.
    """

    name = "cot"

    def __init__(
        self,
        path: str,
        only_correct: bool = True,
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        file = existing_path(path)
        assert file is not None
        self.path, self.only_correct = file, only_correct
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        if split == "test":
            raise NoProblems(
                f"{self.path}: worked solutions have no test split; test on GSM8K or MATH500"
            )
        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.jsonl"))
        if not files:
            raise FileNotFoundError(f"{self.path}: there is no .jsonl file in this folder")
        rows = [row for file in files for row in read_rows(file)]
        tasks = [(row, _cot_task(f"{self.name}/train/{i}", row)) for i, row in enumerate(rows)]
        usable = [task for row, task in tasks if row.flag("correct", True) or not self.only_correct]
        return split_part(usable, split, self.validation)[: self.limit]


def _cot_task(id: str, row: FileRow) -> Task:
    tags = {
        name: str(row.fields[name]) for name in ("dataset", "teacher_model") if row.fields.get(name)
    }
    gold = gold_answer(row.text("ground_truth"))
    return Task(Problem(id, row.text("question"), tags=tags), gold, row.text("solution"))
