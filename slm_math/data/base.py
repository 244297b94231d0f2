"""What a data set is: problems with reference answers, and dialogues that demonstrate solutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from slm_math.data.checks import check_dialogues, check_tasks
from slm_math.data.files import HubFile
from slm_math.prompts import Prompt
from slm_math.types import Chat, Problem, Task, assistant

MARK = "VERDICT:"  # before a verdict, as the verifier's prompts ask for it
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class NoProblems(ValueError):
    """A data set has no such split, or no problems at all."""


class _NoName:
    """Stands where a data set has no name."""

    def __get__(self, source: object, kind: type) -> str:
        raise ValueError(f'{kind.__name__} has no name: write name = "..." in the class')


class Source:
    """A data set. `name` starts the ids of its problems (`gsm8k/train/12`) and is in every record.

    A subclass defines `name` and `tasks`; everything else has a default. What it returns is read
    by `read_tasks` and `read_dialogues`, which check it.
    """

    name: str = cast(str, _NoName())
    weights: Mapping[str, float] | None = None  # of its `parts`; None: of each what it has

    def tasks(self, split: Split) -> list[Task]:
        """The problems of a split, always in the same order, each with an id of its own.

        The gold of a task is the reference answer, or a worked solution that ends in it.
        """
        raise NotImplementedError

    def twins(self, split: Split) -> list[Task]:
        """Twins of problems of a split: of the same template with other numbers, in no training
        data, each with the tag `twin_of`, the id of its problem (see `slm_math.data.twins`).
        """
        return []

    def readable(self, split: Split) -> tuple[list[Task], list[tuple[str, str]]]:
        """The problems of a split that can be used, and of the others their ids and the reasons."""
        return list(self.tasks(split)), []

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        """Demonstrations to imitate: by default the worked solutions, each as the answer to its
        problem in the prompt that `SingleShot(prompt)` uses.
        """
        return [
            task.problem.ask(Prompt(prompt)) + assistant(task.solution)
            for task in read_tasks(self, split, graded=False)
            if task.solution
        ]

    def answers_problems(self) -> bool:
        """Whether its dialogues are the worked solutions of its problems."""
        return type(self).dialogues is Source.dialogues

    def dialogue_problems(self, split: Split) -> list[Problem] | None:
        """What each dialogue is about, in the order of `dialogues`; None where nothing says."""
        if not self.answers_problems():
            return None
        return [task.problem for task in read_tasks(self, split, graded=False) if task.solution]

    def demonstrate_check(self, solution: str, answer: str, verdict: str) -> Chat | None:
        """What a verifier says to judge an answer, to imitate: by default the worked solution of
        the problem and then `VERDICT: ...`. None if this answer is not to be demonstrated on.
        """
        return assistant(f"{solution}\n{MARK} {verdict}")

    def parts(self) -> dict[str, Source]:
        """The data sets that it consists of, by name; {} for one that consists of no others."""
        return {}

    def about(self, split: Split) -> str:
        """A line on what a split consists of, which is printed where it is used; "" for none."""
        return ""

    def hub_files(self) -> list[HubFile]:
        """The files on the Hugging Face hub that the data set reads; [] for local data."""
        return []


def read_tasks(source: Source, split: Split, graded: bool = True) -> list[Task]:
    """The problems of a split, checked, with reference answers that the grader can compare.

    Everything that uses problems reads them here. `graded=False` leaves ids and reference answers
    as they are, where nobody answers the problems. Raises ValueError that names the class and the
    problem.
    """
    kind = type(source).__name__
    if not isinstance(source.name, str):
        raise ValueError(f"{kind}.name is {source.name!r}: it must be a text")
    if type(source).tasks is Source.tasks:
        raise NoProblems(f"{kind} has dialogues only: it defines no tasks(split), so no problems")
    return check_tasks(source.tasks(split), f"{kind}.tasks({split!r})", graded)


def read_dialogues(source: Source, split: Split, prompt: str) -> list[Chat]:
    """The demonstrations of a split, checked. Raises ValueError that names the class."""
    dialogues = source.dialogues(split, prompt)
    return check_dialogues(dialogues, f"{type(source).__name__}.dialogues({split!r})")
