"""What tests of drafts share: rows of a file, records of an evaluation, and the tasks that are made
of them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slm_math.data import Drafts
from slm_math.data.base import read_tasks
from slm_math.records.record import Record, TurnEvent
from slm_math.types import Task


def row(number: int, right: bool, **more: Any) -> dict[str, Any]:
    """A row with a draft of problem `number`, whose answer is right or off by one."""
    answer = str(number + 3 + (not right))
    draft = {"draft": f"It is {answer}.", "answer": answer}
    return {"id": f"p/{number}", "problem": f"What is {number} plus 3?"} | draft | more


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    """Writes the rows to a file, and returns its path."""
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def tasks(path: str | list[str], split: Any = "train", **options: Any) -> list[Task]:
    """The tasks of a split; no problem is held out, unless the options say so."""
    return read_tasks(Drafts(path, **{"validation": 0.0} | options), split)


def labels(made: list[Task]) -> dict[str, str]:
    """The label by problem, of problems with one draft."""
    return {task.problem.text: task.gold for task in made}


def record(number: int, answer: str | None, **more: Any) -> Record:
    """The record of a solver that says `answer` to problem `number`, or nothing."""
    turns = (TurnEvent(role="solver", reply=f"I say {answer}."),) if answer else ()
    text, gold = f"What is {number} plus 3?", str(number + 3)
    return Record(**{"id": f"p/{number}", "sample": 0, "problem": text, "gold": gold}
                  | {"answer": answer, "events": turns} | more)  # fmt: skip


# the fixture `evaluations`
Evaluations = Callable[..., str]
