"""What a data set is: problems with reference answers, and dialogues that demonstrate solutions."""

from __future__ import annotations

from typing import Literal

from slm_math.data.checked import checked_tasks
from slm_math.data.files import HubFile
from slm_math.prompts import Prompt
from slm_math.types import Chat, Task, assistant

Split = Literal["train", "validation", "test"]


class Source:
    """A data set. `name` starts the ids of its problems (`gsm8k/train/12`) and is in every record.

    A subclass defines `name` and `tasks`; everything else has a default.
    """

    name: str

    def tasks(self, split: Split) -> list[Task]:
        """The problems of a split, always in the same order, each with an id of its own."""
        raise NotImplementedError

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        """Demonstrations to imitate: by default the worked solutions, each as the answer to its
        problem in the prompt that `SingleShot(prompt)` uses.
        """
        return [
            task.problem.ask(Prompt(prompt)) + assistant(task.solution)
            for task in read_tasks(self, split)
            if task.solution
        ]

    def hub_files(self) -> list[HubFile]:
        """The files on the Hugging Face hub that the data set reads; [] for local data."""
        return []


def read_tasks(source: Source, split: Split) -> list[Task]:
    """The problems of a split, checked, with their reference answers as the grader takes them.
    Everything that uses a data set reads it here.

    Raises ValueError, with the class and the problem, for what cannot be used.
    """
    place = f"{type(source).__module__}.{type(source).__qualname__}"
    if not isinstance(getattr(source, "name", None), str):
        raise ValueError(f"{place} has no name: set the class attribute `name` to a text")
    try:
        tasks = source.tasks(split)
    except NotImplementedError as error:
        raise ValueError(f"{place} defines no tasks(split), so it has no problems") from error
    return checked_tasks(tasks, f"{place}.tasks({split!r})")
