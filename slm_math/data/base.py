"""What a data set is: problems with reference answers, and dialogues that demonstrate solutions."""

from __future__ import annotations

from typing import Literal

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
            for task in self.tasks(split)
            if task.solution
        ]

    def hub_files(self) -> list[HubFile]:
        """The files on the Hugging Face hub that the data set reads; [] for local data."""
        return []
