"""What a data set is: problems with reference answers, and the worked dialogues that can be made of
them.
"""

from __future__ import annotations

from typing import Literal

from slm_math.prompts import Prompt
from slm_math.types import Chat, Task, assistant

Split = Literal["train", "validation", "test"]


class Source:
    """A data set. `name` starts its problem ids (`gsm8k/train/12`) and appears in every record."""

    name: str

    def tasks(self, split: Split) -> list[Task]:
        """The problems of a split, in a fixed order; no two have the same id."""
        raise NotImplementedError

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        """Demonstrations to imitate: by default the worked solutions, asked for as
        `SingleShot(prompt)` asks.
        """
        return [
            task.problem.ask(Prompt(prompt)) + assistant(task.solution)
            for task in self.tasks(split)
            if task.solution
        ]
