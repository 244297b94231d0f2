"""The problems of a data set as everything else reads them: their types are checked, and their
reference answers normalized or refused, before any model loads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

from slm_math.answers.tolerance import allowance
from slm_math.data.golds import read_gold
from slm_math.types import AnswerType, Image, Problem, Task

# what a field of a problem must be
_PROBLEM = {"id": str, "text": str, "choices": (tuple, list), "images": (tuple, list)}


def checked_tasks(tasks: Any, place: str) -> list[Task]:
    """What a data set returned as its tasks; `place` names its class.

    Raises ValueError, with the class and the problem, for anything that is no `Task`, for an id
    that occurs twice, and for a reference answer that the grader could not use.
    """
    if isinstance(tasks, str | Mapping) or not isinstance(tasks, Iterable):
        raise ValueError(f"{place} must return a list of Task, got {type(tasks).__name__}")
    checked = [_checked(task, place, number) for number, task in enumerate(tasks)]
    counts = Counter(task.problem.id for task in checked)
    repeated = [id for id, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"{place}: {len(repeated)} problem ids occur twice, for example {repeated[0]!r:.100}"
        )
    return checked


def _checked(task: Any, place: str, number: int) -> Task:
    """The task with its reference answer as text, and with tuples and texts where they belong."""
    if not isinstance(task, Task):
        raise ValueError(f"{place}: item {number} must be a Task, got {type(task).__name__}")
    problem = task.problem
    if not isinstance(problem, Problem):
        raise ValueError(
            f"{place}: the problem of item {number} must be a Problem, such as Problem(id, text), "
            f"got {type(problem).__name__}"
        )
    place += f", problem {problem.id!r:.100}"
    for name, kind in _PROBLEM.items():
        if not isinstance(getattr(problem, name), kind):
            got = type(getattr(problem, name)).__name__
            wanted = kind.__name__ if isinstance(kind, type) else "tuple"
            raise ValueError(f"{place}: its {name} must be of type {wanted}, got {got}")
    for name, kind in (("choices", str), ("images", Image)):
        wrong = [item for item in getattr(problem, name) if not isinstance(item, kind)]
        if wrong:
            got = type(wrong[0]).__name__
            raise ValueError(f"{place}: its {name} must be of type {kind.__name__}, got {got}")
    if problem.answer_type not in get_args(AnswerType):
        kinds = ", ".join(get_args(AnswerType))
        raise ValueError(
            f"{place}: its answer_type must be one of {kinds}, got {problem.answer_type!r:.60}"
        )
    if not isinstance(problem.tags, Mapping):
        raise ValueError(f"{place}: its tags must be a mapping, got {type(problem.tags).__name__}")
    if not isinstance(task.solution, str | None):
        raise ValueError(
            f"{place}: its solution must be a text or None, got {type(task.solution).__name__}"
        )
    try:
        gold = read_gold(task.gold, problem.answer_type, problem.choices)
        if problem.answer_type == "num" and task.tolerance is not None:
            allowance(task.tolerance)
    except ValueError as error:
        subject = "" if str(error).startswith("tolerance") else "its gold "
        raise ValueError(f"{place}: {subject}{error}") from error
    tags = {str(name): str(value) for name, value in problem.tags.items()}
    problem = replace(
        problem, choices=tuple(problem.choices), images=tuple(problem.images), tags=tags
    )
    return replace(task, problem=problem, gold=gold)
