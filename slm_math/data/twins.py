"""Unseen twins: to a problem a sibling of the same template with other numbers, which nobody can
have seen. Who is right on problems and wrong on their twins has memorized the problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slm_math.answers import grade_answer
from slm_math.data.base import Source, Split
from slm_math.data.checks import check_tasks
from slm_math.data.files import read_rows
from slm_math.data.identity import question_key
from slm_math.records.eval_folders import TWIN_OF
from slm_math.types import Problem, Task


def as_twin(twin: Task, parent: Problem) -> Task:
    """A task as the twin of a problem: with an id of its own, the tags of its parent, and its
    parent's id.
    """
    problem = replace(
        twin.problem, id=f"{parent.id}~twin", tags={**parent.tags, TWIN_OF: parent.id}
    )
    return replace(twin, problem=problem)


def twins_of(tasks: Sequence[Task], source: Source, split: Split, twins: bool | str) -> list[Task]:
    """The twins of tasks, in their order: those that the data set has of its own, or those of a
    file that `slm-math twins` wrote, which belong to problems of equal text. [] for `twins` False.

    Raises ValueError if there are none, and for a twin that is its parent, or has its answer.
    """
    if not twins:
        return []
    found = _own(source, split) if twins is True else _of_file(Path(twins), tasks)
    where = f"{source.name}/{split}" if twins is True else str(twins)
    chosen = [(task, found[task.problem.id]) for task in tasks if task.problem.id in found]
    if not chosen:
        hint = (
            "make some with slm-math twins FILE, and name the file"
            if twins is True
            else "it was made for other problems"
        )
        raise ValueError(f"twins: {where} has none of the {len(tasks)} problems: {hint}")
    for task, twin in chosen:
        _check(task, twin, where)
    twinned = [as_twin(twin, task.problem) for task, twin in chosen]
    return check_tasks(twinned, f"twins of {where}", graded=True)


def _own(source: Source, split: Split) -> dict[str, Task]:
    return {twin.problem.tags[TWIN_OF]: twin for twin in source.twins(split)}


def _check(task: Task, twin: Task, where: str) -> None:
    id = task.problem.id
    if question_key(task.problem) == question_key(twin.problem):
        raise ValueError(f"twins: in {where}, that of {id} is the problem itself")
    if task.problem.choices == twin.problem.choices and grade_answer(twin.gold, task).equal:
        raise ValueError(f"twins: in {where}, that of {id} has the answer of the problem")


def _of_file(file: Path, tasks: Sequence[Task]) -> dict[str, Task]:
    """Twins by the ids of their parents; a row names its parent's text."""
    ids: dict[str, list[str]] = {}
    for task in tasks:
        ids.setdefault(question_key(task.problem), []).append(task.problem.id)
    if not file.is_file():
        raise FileNotFoundError(
            f"twins: {file} does not exist: slm-math twins FILE -o OUT makes it"
        )
    by_id = {task.problem.id: task for task in tasks}
    found = {}
    for row in read_rows(file):
        for id in ids.get(question_key(Problem("", row.text("parent"))), ()):
            parent = by_id[id]  # whose rules it is graded by
            problem = replace(parent.problem, text=row.text("problem"))
            found[id] = replace(parent, problem=problem, gold=row.text("answer"), solution=None)
    return found
