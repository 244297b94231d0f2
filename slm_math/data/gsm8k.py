"""GSM8K: grade-school word problems with worked solutions (Cobbe et al. 2021).

A row of the published files looks like this (an invented one):

    {"question": "A baker fills 6 trays with 8 rolls each and sells 11. How many are left?",
     "answer": "She bakes 6*8=<<6*8=48>>48 rolls.\\n48-11=<<48-11=37>>37 are left.\\n#### 37"}
"""

from __future__ import annotations

import re

from slm_math.answers import gold_answer
from slm_math.data.base import Source, Split
from slm_math.data.files import FileRow, HubFile
from slm_math.data.published import (
    checked_fraction,
    checked_limit,
    existing_path,
    published_rows,
    published_split,
    split_part,
)
from slm_math.types import Problem, Task

REPOSITORY, REVISION = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"
_CALCULATION = re.compile(r"<<[^<>]*>>")


class GSM8K(Source):
    """Grade-school word problems: 7,473 to train on (some are held out), 1,319 to test on.

    Args:
        path: a folder with train and test files, or one file: JSONL, JSON or Parquet with the
            published fields `question` and `answer`. By default `openai/gsm8k` from the hub.
        validation: the share of the training problems that is held out for validation.
        limit: keep only the first problems of each split.
    """

    name = "gsm8k"

    def __init__(
        self, path: str | None = None, validation: float = 0.05, limit: int | None = None
    ) -> None:
        self.path = existing_path(path)
        self.validation = checked_fraction(validation)
        self.limit = checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        part = published_split(split)
        rows = published_rows(self.path, part, self._hub_file(part))
        tasks = [_gsm8k_task(f"{self.name}/{part}/{i}", row) for i, row in enumerate(rows)]
        return split_part(tasks, split, self.validation)[: self.limit]

    def hub_files(self) -> list[HubFile]:
        return [] if self.path else [self._hub_file("train"), self._hub_file("test")]

    @staticmethod
    def _hub_file(part: str) -> HubFile:
        return HubFile(REPOSITORY, f"main/{part}-00000-of-00001.parquet", REVISION)


def _gsm8k_task(id: str, row: FileRow) -> Task:
    question, answer = row.text("question"), row.text("answer")
    if row.is_number("answer"):  # a reference without a worked solution
        return Task(Problem(id, question), answer)
    rationale, marked, gold = answer.rpartition("####")
    if not marked or not gold.strip():
        raise row.error("answer", "does not end in '#### <answer>'")
    gold = gold_answer(answer)
    return Task(
        Problem(id, question),
        gold,
        f"{plain_rationale(rationale)}\nThe answer is \\boxed{{{gold}}}.".strip(),
    )


def plain_rationale(text: str) -> str:
    """A GSM8K rationale without its calculator marks `<<48/2=24>>`."""
    return _CALCULATION.sub("", text).strip()
