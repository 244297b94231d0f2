"""CoT: worked solutions that a teacher model wrote, to imitate.

A row looks like this (an invented one; only the first four fields are read as text):

    {"question": "What is 15 % of 80?", "ground_truth": "12", "correct": true,
     "solution": "0.15 * 80 = 12, so the answer is \\\\boxed{12}.",
     "dataset": "gsm8k", "teacher_model": "some-teacher-7b",
     "thinking_process": "15 % is 0.15."}

Rows of problems with choices, images or a tolerance have `answer_type`, `choices`, `images` (paths)
and `tolerance`, too.
"""

from __future__ import annotations

from typing import cast

from slm_math.answers import gold_answer
from slm_math.data.base import NoProblems, Source, Split
from slm_math.data.chat_rows import with_thoughts
from slm_math.data.files import FileRow, read_rows
from slm_math.data.published import checked_fraction, checked_limit, existing_path, split_part
from slm_math.types import AnswerType, Image, Problem, Task

THOUGHTS = "thinking_process"
GENERATED = "rows.jsonl"  # of `slm-math generate-cot`


class CoT(Source):
    """Worked solutions of a teacher model: JSONL with `question`, `ground_truth`, `solution` and
    optionally `correct`.

    A problem of GSM8K or MATH is held out for validation here exactly if it is held out there.

    Args:
        path: a file, or a folder whose .jsonl files are read in the order of their names.
        only_correct: leave out rows with `correct: false`.
        thinking: train on the thoughts, too: `thinking_process` in think tags before the solution.
            Rows without thoughts keep their solution alone, and their number is printed.
        name: what ids begin with; two of a mixture need two names.
        validation: the share of the problems that is held out for validation.
        limit: keep only the first problems of each split.
    """

    def __init__(
        self,
        path: str,
        only_correct: bool = True,
        thinking: bool = False,
        name: str = "cot",
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        file = existing_path(path)
        assert file is not None
        self.name = name
        self.path, self.only_correct, self.thinking = file, only_correct, thinking
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        if split == "test":
            raise NoProblems(
                f"{self.path}: worked solutions have no test split; test on GSM8K or MATH500"
            )
        tasks = [
            _cot_task(f"{self.name}/train/{number}", row, self.thinking)
            for number, row in enumerate(self._rows())
            if self._is_used(row)
        ]
        return split_part(tasks, split, self.validation)[: self.limit]

    def about(self, split: Split) -> str:
        """How many rows have no thoughts, if these are trained on."""
        rows = [row for row in self._rows() if self._is_used(row)] if self.thinking else []
        without = sum(not _thoughts(row) for row in rows)
        if not without:
            return ""
        return f"{self.name}: {without} of {len(rows)} rows have no thoughts ({THOUGHTS})"

    def _rows(self) -> list[FileRow]:
        """The rows of the file, or of a folder: of generate-cot's, or of all its files."""
        files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.jsonl"))
        made = [file for file in files if file.name == GENERATED]  # beside its journal
        if not files:
            raise FileNotFoundError(f"{self.path}: there is no .jsonl file in this folder")
        return [row for file in made or files for row in read_rows(file)]

    def _is_used(self, row: FileRow) -> bool:
        return row.flag("correct", True) or not self.only_correct


def _thoughts(row: FileRow) -> str:
    """The thoughts of a row; "" if it has none."""
    return row.text(THOUGHTS) if row.fields.get(THOUGHTS) else ""


def _cot_task(id: str, row: FileRow, thinking: bool) -> Task:
    tags = {
        name: str(row.fields[name]) for name in ("dataset", "teacher_model") if row.fields.get(name)
    }
    gold = gold_answer(row.text("ground_truth"))
    solution = row.text("solution")
    if thinking:
        solution = with_thoughts(_thoughts(row), solution)
    images = tuple(map(Image, row.texts("images")))
    kind = cast(AnswerType, row.fields.get("answer_type") or "math")
    problem = Problem(
        id, row.text("question"), kind, row.texts("choices"), images=images, tags=tags
    )
    return Task(problem, gold, solution, row.fields.get("tolerance"))
