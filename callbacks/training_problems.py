"""The problems that a data module trains on, to compare them with those of an evaluation."""

from __future__ import annotations

from typing import Any

from slm_math.data.base import Source, read_tasks
from slm_math.data.problem_data import ProblemData
from slm_math.types import Problem, Task


def training_problems(data: Any) -> list[Task]:
    """The training problems of a data module; for dialogues that are not worked problems, every
    message as a problem, equal ones once.
    """
    if isinstance(data, ProblemData):
        return data.tasks
    source = data.source
    try:
        tasks = read_tasks(data.training_source, "train", graded=False)
    except ValueError:  # a source that has only dialogues
        tasks = []
    if type(source).dialogues is Source.dialogues:
        return tasks
    first: dict[str, int] = {}  # text -> its first message
    for number, text in enumerate(m.text for chat in data.training_dialogues() for m in chat):
        first.setdefault(text, number)
    return [
        *tasks,
        *(
            Task(Problem(f"{source.name}/message/{number}", text), "")
            for text, number in first.items()
        ),
    ]
