"""The problems that a data module trains on, to compare them with those of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slm_math.data.base import Source, read_tasks
from slm_math.data.overlap import Screen
from slm_math.data.problem_data import ProblemData
from slm_math.types import Problem


def training_problems(data: Any, test: Sequence[Problem]) -> list[Problem]:
    """The training problems of a data module; for dialogues that are not worked problems, every
    message that may be a test problem as a problem, too, equal ones once.
    """
    if isinstance(data, ProblemData):
        return [task.problem for task in data.tasks]
    source = data.source
    try:
        problems = [t.problem for t in read_tasks(data.training_source, "train", graded=False)]
    except ValueError:  # a source that has only dialogues
        problems = []
    if type(source).dialogues is Source.dialogues:
        return problems
    first: dict[str, int] = {}  # text -> its first message
    for number, text in enumerate(m.text for chat in data.training_dialogues() for m in chat):
        first.setdefault(text, number)
    screen = Screen(test)
    return problems + [
        Problem(f"{source.name}/message/{number}", text)
        for text, number in first.items()
        if screen.passes(text)
    ]
