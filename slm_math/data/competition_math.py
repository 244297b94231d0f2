"""MATH: competition problems by subject and level (Hendrycks et al. 2021), without MATH-500.

A row of the published files looks like this (an invented one):

    {"problem": "What is the sum of the roots of $x^2 - 9x + 14$?", "level": "Level 2",
     "type": "Algebra", "solution": "By Vieta's formulas the sum is $\\\\boxed{9}$."}
"""

from __future__ import annotations

from slm_math.answers import gold_answer
from slm_math.data.base import Source, Split
from slm_math.data.files import FileRow, HubFile
from slm_math.data.math500 import MATH500, math_tags
from slm_math.data.published import (
    checked_fraction,
    checked_limit,
    existing_path,
    published_rows,
    split_part,
)
from slm_math.types import Problem, Task

REPOSITORY = "DigitalLearningGmbH/MATH-lighteval"
REVISION = "0530c78699ea5e8eb5530600900e1f328b48acad"


class MATH(Source):
    """Competition problems by subject and level: 12,000 to train on, MATH-500 to test on.

    The training problems are those of the original training and test splits without MATH-500.

    Args:
        path: a folder with `train` and optionally `test` (files with the fields `problem` and
            `solution`, or the original tree `train/<subject>/<number>.json`), or one file. By
            default `DigitalLearningGmbH/MATH-lighteval` from the hub.
        math500: a local copy of MATH-500, whose problems are removed by their text. It is needed
            for the test split, and for training if `path` holds the original test split. By default
            `HuggingFaceH4/MATH-500` from the hub.
        validation: the share of the training problems that is held out for validation.
        limit: keep only the first problems of each split.
    """

    name = "math"

    def __init__(
        self,
        path: str | None = None,
        math500: str | None = None,
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        self.path = existing_path(path)
        self.validation = checked_fraction(validation)
        self.limit = checked_limit(limit)
        self.held_out = MATH500(math500)

    def tasks(self, split: Split) -> list[Task]:
        if split == "test":
            return self.held_out.tasks("test")[: self.limit]
        rows = published_rows(self.path, "train", self._hub_file("train"))
        test_rows = published_rows(self.path, "test", self._hub_file("test"), required=False)
        every = [*rows, *test_rows]
        tasks = [_math_task(f"{self.name}/train/{i}", row) for i, row in enumerate(every)]
        if test_rows or self.held_out.path:
            tasks = self._without_test_problems(tasks)
        return split_part(tasks, split, self.validation)[: self.limit]

    def hub_files(self) -> list[HubFile]:
        own = [] if self.path else [self._hub_file("train"), self._hub_file("test")]
        return [*own, *self.held_out.hub_files()]

    def _without_test_problems(self, tasks: list[Task]) -> list[Task]:
        test = {_without_spaces(task.problem.text) for task in self.held_out.tasks("test")}
        missing = test - {_without_spaces(task.problem.text) for task in tasks}
        if self.path is None and missing:
            raise ValueError(
                f"{len(missing)} of MATH-500's problems were not found in {REPOSITORY}, so they "
                "would stay among the training problems"
            )
        return [task for task in tasks if _without_spaces(task.problem.text) not in test]

    @staticmethod
    def _hub_file(part: str) -> HubFile:
        return HubFile(REPOSITORY, f"data/{part}-00000-of-00001.parquet", REVISION)


def _math_task(id: str, row: FileRow) -> Task:
    problem, solution = row.text("problem"), row.text("solution")
    gold = gold_answer(solution)
    if gold == solution.strip():
        raise row.error("solution", "has no \\boxed{} answer")
    return Task(Problem(id, problem, tags=math_tags(row)), gold, solution)


def _without_spaces(text: str) -> str:
    """A problem's text without white space: copies of a problem differ only in line breaks."""
    return "".join(text.split())
