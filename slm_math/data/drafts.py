"""Drafts: solutions that somebody wrote, each with the question whether its answer is right.

A row looks like this (an invented one; `gold` may be replaced by `"correct": true`):

    {"problem": "What is 15 % of 80?", "gold": "12",
     "draft": "0.15 * 80 = 11, so the answer is \\\\boxed{11}.", "answer": "11"}
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slm_math.answers.grade import grade_answer
from slm_math.answers.verdicts import DECISIONS
from slm_math.data.base import Source, Split
from slm_math.data.files import FORMATS, FileRow, read_rows
from slm_math.data.published import (
    checked_fraction,
    checked_limit,
    existing_path,
    published_split,
    split_part,
)
from slm_math.prompts import Prompt
from slm_math.records.files import read_manifest, read_records
from slm_math.records.record import Record
from slm_math.types import AnswerType, Chat, Draft, Problem, Task, assistant

RIGHT, WRONG = DECISIONS


@dataclass(frozen=True)
class _Labeled:
    """A draft, its problem, and whether its answer is right."""

    problem: Problem
    draft: Draft
    right: bool


class Drafts(Source):
    """Drafts to judge, of an evaluation's records or of a file; the reference answer is CORRECT or
    INCORRECT.

    Drafts of one problem are held out for validation together, exactly if GSM8K or MATH hold that
    problem out: a verifier is never trained and judged on one problem. A draft with a reference
    answer is graded here; without one, its field `correct` is the label.

    Args:
        path: the folder of an evaluation (with records.jsonl), or a file with the fields problem,
            draft, answer, and gold or correct. Records of a test split, and files whose name begins
            with test, are the test split.
        balance: keep as many right as wrong drafts.
        per_problem: keep at most so many drafts of a problem.
        validation: the share of the problems that is held out for validation.
        limit: keep only the first drafts of each split.
    """

    name = "drafts"

    def __init__(
        self,
        path: str,
        balance: bool = True,
        per_problem: int | None = None,
        validation: float = 0.05,
        limit: int | None = None,
    ) -> None:
        folder = existing_path(path)
        assert folder is not None
        self.path = folder
        self.balance = balance
        self.per_problem = checked_limit(per_problem)
        self.validation, self.limit = checked_fraction(validation), checked_limit(limit)

    def tasks(self, split: Split) -> list[Task]:
        if (published_split(split) == "test") != self._is_test():
            raise ValueError(
                f"{self.path} holds drafts of {'test' if self._is_test() else 'training'} "
                f"problems, and no {split} split"
            )
        drafts = self._drafts()
        if not drafts:
            raise ValueError(
                f"{self.path} holds no drafts with an answer, so there is nothing to judge"
            )
        tasks = split_part([_task(self.name, each) for each in drafts], split, self.validation)
        tasks = _capped(tasks, self.per_problem)
        return (_balanced(tasks) if self.balance else tasks)[: self.limit]

    def dialogues(self, split: Split, prompt: str = "verify") -> list[Chat]:
        """Verdicts to imitate: each draft in the prompt that `Judge(prompt)` uses, and its line
        "VERDICT: ...".
        """
        asked = Prompt(prompt, "problem draft answer")
        return [
            task.problem.ask(asked, draft=task.problem.draft.text, answer=task.problem.draft.answer)
            + assistant(f"VERDICT: {task.gold}")
            for task in self.tasks(split)
            if task.problem.draft is not None
        ]

    @property
    def _records(self) -> Path:
        return self.path / "records.jsonl"

    def _is_test(self) -> bool:
        if self.path.is_dir():
            return read_manifest(self.path).get("split") == "test"
        return self.path.stem.startswith("test")

    def _drafts(self) -> list[_Labeled]:
        if self.path.is_file():
            return [_of_row(row) for row in read_rows(self.path)]
        if not self._records.is_file():
            raise ValueError(
                f"{self.path} is no evaluation (it has no records.jsonl): name the folder of one "
                f"agent's evaluation, or a file that ends in {', '.join(FORMATS)}"
            )
        return [draft for record in read_records(self._records) if (draft := _of_record(record))]


def _of_record(record: Record) -> _Labeled | None:
    """The last reply of the role that spoke first; None without an answer."""
    if record.answer is None or record.answer_type == "verdict" or not record.turns:
        return None
    text = [turn.reply for turn in record.turns if turn.role == record.turns[0].role][-1]
    problem = Problem(
        record.id, record.problem, record.answer_type, record.choices, tags=record.tags
    )
    task = Task(problem, record.gold, tolerance=record.tolerance)
    right = grade_answer(record.answer, task).equal
    return _Labeled(problem, Draft(text, record.answer), right)


def _of_row(row: FileRow) -> _Labeled:
    problem = Problem(str(row.fields.get("id", row.place)), row.text("problem"))
    draft = Draft(row.text("draft"), row.text("answer"))
    if row.fields.get("gold") is None:
        if "correct" not in row.fields:
            raise row.error("correct", "is missing, and so is 'gold': one of them is the label")
        return _Labeled(problem, draft, row.flag("correct", False))
    right = grade_answer(draft.answer, Task(problem, row.text("gold"))).equal
    return _Labeled(problem, draft, right)


def _task(name: str, labeled: _Labeled) -> Task:
    """The problem of judging a draft; its id tells the drafts of a problem apart."""
    problem, draft = labeled.problem, labeled.draft
    verdict: AnswerType = "verdict"
    mark = hashlib.sha256(f"{draft.text}\0{draft.answer}".encode("utf-8", "surrogatepass"))
    return Task(
        Problem(
            id=f"{name}/{problem.id}/{mark.hexdigest()[:8]}",
            text=problem.statement,
            answer_type=verdict,
            images=problem.images,
            tags=problem.tags,
            draft=draft,
        ),
        RIGHT if labeled.right else WRONG,
    )


def _capped(tasks: Iterable[Task], most: int | None) -> list[Task]:
    """Each draft once, and of each problem at most so many, right and wrong ones in turn."""
    by_problem: dict[str, dict[str, list[Task]]] = defaultdict(lambda: {RIGHT: [], WRONG: []})
    for task in {task.problem.id: task for task in tasks}.values():
        by_problem[task.problem.text][task.gold].append(task)
    return [task for both in by_problem.values() for task in _in_turn(both)[:most]]


def _in_turn(both: dict[str, list[Task]]) -> list[Task]:
    right, wrong = both[RIGHT], both[WRONG]
    paired = [task for pair in zip(right, wrong) for task in pair]
    return paired + right[len(wrong) :] + wrong[len(right) :]


def _balanced(tasks: Sequence[Task]) -> list[Task]:
    """As many right as wrong drafts; which of the more frequent ones are kept depends on their ids
    alone.
    """
    sides = [[task for task in tasks if task.gold == verdict] for verdict in DECISIONS]
    size = min(map(len, sides))
    kept = {
        task.problem.id
        for side in sides
        for task in sorted(side, key=lambda task: _digest(task.problem.id))[:size]
    }
    return [task for task in tasks if task.problem.id in kept]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
