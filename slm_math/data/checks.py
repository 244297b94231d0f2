"""Problems and dialogues are checked where they leave a data set, so that a mistake in a data set
of one's own is an error that names its class and the problem.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from slm_math.answers.tolerance import allowance
from slm_math.data.golds import is_number, number_text, read_gold
from slm_math.images import ImageError, chat_images, check_image
from slm_math.types import AnswerType, Chat, Draft, Image, Message, Problem, Task


def check_tasks(tasks: Any, owner: str, graded: bool) -> list[Task]:
    """The tasks; if `graded`, with ids of their own and reference answers as text (`read_gold`).

    Raises ValueError that begins with `owner`, for example "Mine.tasks('train')", and names the
    first problem that is wrong.
    """
    checked: list[Task] = []
    mistakes: list[str] = []
    for number, task in enumerate(_listed(tasks, owner, "Task")):
        _check_kind(task, number, owner)
        place = f"problem {task.problem.id}"
        try:
            checked.append(_checked_task(task, graded))
        except ValueError as error:
            mistakes.append(f"{owner}: {place}: {error}")
    if mistakes:
        more = f" (and {len(mistakes) - 1} more problems)" if len(mistakes) > 1 else ""
        raise ValueError(mistakes[0] + more)
    counts = Counter(task.problem.id for task in checked) if graded else {}
    repeated = [id for id, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            f"{owner}: {len(repeated)} problem ids occur twice, for example {repeated[0]}"
        )
    return checked


def check_dialogues(dialogues: Any, owner: str) -> list[Chat]:
    """The dialogues, each a tuple of messages. Raises ValueError that begins with `owner`."""
    checked: list[Chat] = []
    for number, dialogue in enumerate(_listed(dialogues, owner, "Chat")):
        if not isinstance(dialogue, (tuple, list)) or [
            message for message in dialogue if not isinstance(message, Message)
        ]:
            raise ValueError(
                f"{owner}: dialogue {number} is {_shown(dialogue)}; a dialogue is a tuple of "
                "messages, for example user('...') + assistant('...') of slm_math.types"
            )
        try:
            check_images(chat_images(dialogue))
        except ImageError as error:
            raise ValueError(f"{owner}: dialogue {number}: {error}") from None
        checked.append(tuple(dialogue))
    return checked


def _listed(values: Any, owner: str, kind: str) -> Sequence[Any]:
    if isinstance(values, str | Mapping | Task) or not hasattr(values, "__iter__"):
        raise ValueError(f"{owner} returns {_shown(values)}; it must return a list of {kind}")
    return list(values)


def _check_kind(task: Any, number: int, owner: str) -> None:
    """Raises ValueError unless this is a task with a problem that has a name."""
    if not isinstance(task, Task):
        raise ValueError(
            f"{owner}: item {number} is {_shown(task)}; it must be Task(Problem(id, text), gold)"
        )
    if not isinstance(task.problem, Problem):
        raise ValueError(
            f"{owner}: the problem of item {number} is {_shown(task.problem)}; it must be "
            "Problem(id, text), as in Task(Problem(id, text), gold)"
        )
    if isinstance(task.problem.id, bool) or not isinstance(task.problem.id, str | int):
        raise ValueError(
            f"{owner}: the id of item {number} is {_shown(task.problem.id)}; it must be text that "
            "no other problem has"
        )


def _checked_task(task: Task, graded: bool) -> Task:
    """The task in the types that everything else relies on. Raises ValueError."""
    if is_number(task.solution) and math.isfinite(task.solution):  # type: ignore[arg-type]
        task = replace(task, solution=number_text(task.solution))
    problem = task.problem
    if not isinstance(problem.text, str):
        raise ValueError(f"its text is {_shown(problem.text)}, not text")
    if not problem.text.strip() and not problem.images:
        raise ValueError("its text is empty")
    if problem.answer_type not in get_args(AnswerType):
        known = ", ".join(get_args(AnswerType))
        raise ValueError(f"its answer type {problem.answer_type!r} is not one of {known}")
    if (problem.answer_type == "verdict") != isinstance(problem.draft, Draft):
        raise ValueError(
            f"its answer type is {problem.answer_type!r} and its draft {_shown(problem.draft)}: "
            'the answer type "verdict" goes with a Draft(text, answer), and no other does'
        )
    _check_parts("choices", problem.choices, str)
    _check_parts("images", problem.images, Image)
    check_images(problem.images)
    if not isinstance(problem.tags, Mapping):
        raise ValueError(f"its tags are {_shown(problem.tags)}, not a mapping of names to texts")
    if task.solution is not None and not isinstance(task.solution, str):
        raise ValueError(f"its solution is {_shown(task.solution)}, neither text nor None")
    if task.tolerance is not None and problem.answer_type == "num":
        allowance(task.tolerance)
    problem = _plain_problem(problem)
    if not graded:
        return task if problem is task.problem else replace(task, problem=problem)
    try:
        gold = read_gold(task.gold, problem)
    except ValueError as error:
        raise ValueError(f"the gold {error}") from None
    if problem is task.problem and gold == task.gold:
        return task
    return replace(task, problem=problem, gold=gold)


def check_images(images: Iterable[Image]) -> None:
    """Raises ImageError, a ValueError, for an image that no model can see. What is behind a URL is
    a matter of the server that reads it.
    """
    for image in images:
        if isinstance(image, Image) and not image.source.startswith(("http://", "https://")):
            check_image(image.source)


def _check_parts(name: str, values: Any, kind: type) -> None:
    if not isinstance(values, tuple | list) or not all(isinstance(value, kind) for value in values):
        raise ValueError(f"its {name} are {_shown(values)}, not a tuple of {kind.__name__}")


def _plain_problem(problem: Problem) -> Problem:
    """The problem with a text as id, tuples, and tags whose values are texts."""
    tags = {str(name): str(value) for name, value in problem.tags.items()}
    parts: dict[str, Any] = {
        "id": str(problem.id),
        "choices": tuple(problem.choices),
        "images": tuple(problem.images),
        "tags": problem.tags if tags == problem.tags else tags,
    }
    same = all(getattr(problem, name) == value for name, value in parts.items())
    return problem if same else replace(problem, **parts)


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"
