"""Data of control arms: the same problems in the same order, without what there is to learn of
them. Held-out splits stay as they are.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from slm_math.data.base import Source, Split, read_dialogues, read_tasks
from slm_math.data.files import HubFile
from slm_math.images import ImageError, blank_image
from slm_math.types import Chat, Image, Message, Problem, Task

T = TypeVar("T")


class _OfAnother(Source):
    """A data set whose training split another one is changed to.

    Args:
        source: the other one.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.weights = source.name, source.weights

    @abstractmethod
    def _changed(self, tasks: list[Task]) -> list[Task]:
        """The training problems instead of these."""

    @abstractmethod
    def _changed_chats(self, chats: list[Chat]) -> list[Chat]:
        """The training dialogues instead of these, which are not the problems' solutions."""

    def _of(self, source: Source) -> Source:
        """The same of a part."""
        return type(self)(source)

    def tasks(self, split: Split) -> list[Task]:
        tasks = read_tasks(self.source, split, graded=False)
        return self._changed(tasks) if split == "train" else tasks

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        if parts := self.parts():
            return [chat for part in parts.values() for chat in part.dialogues(split, prompt)]
        if self.answers_problems():
            return super().dialogues(split, prompt)
        chats = read_dialogues(self.source, split, prompt)
        return self._changed_chats(chats) if split == "train" else chats

    def answers_problems(self) -> bool:
        return self.source.answers_problems()

    def dialogue_problems(self, split: Split) -> list[Problem] | None:
        return self.source.dialogue_problems(split)

    def parts(self) -> dict[str, Source]:
        return {name: self._of(part) for name, part in self.source.parts().items()}

    def twins(self, split: Split) -> list[Task]:
        return self.source.twins(split)

    def about(self, split: Split) -> str:
        return self.source.about(split)

    def hub_files(self) -> list[HubFile]:
        return self.source.hub_files()


class ShuffledGold(_OfAnother):
    """Training problems with the reference answers, and the worked solutions, of other problems of
    their kind. Of dialogues the assistant's turns are those of other dialogues of the same form.

    Args:
        source: the data set.
        seed: of the permutation.
    """

    def __init__(self, source: Source, seed: int = 0) -> None:
        super().__init__(source)
        self.seed = seed

    def _of(self, source: Source) -> Source:
        return ShuffledGold(source, self.seed)

    def _changed(self, tasks: list[Task]) -> list[Task]:
        def kind(task: Task) -> Hashable:
            problem = task.problem
            drafted, solved = problem.draft is not None, task.solution is not None
            source = problem.tags.get("source")
            return problem.answer_type, len(problem.choices), drafted, solved, source

        return [
            replace(task, gold=other.gold, solution=other.solution, tolerance=other.tolerance)
            for task, other in zip(tasks, permuted(tasks, list(map(kind, tasks)), self.seed))
        ]

    def _changed_chats(self, chats: list[Chat]) -> list[Chat]:
        forms = [tuple(message.role for message in chat) for chat in chats]
        return [
            tuple(map(_spoken, chat, other))
            for chat, other in zip(chats, permuted(chats, forms, self.seed))
        ]


def _spoken(message: Message, other: Message) -> Message:
    return other if message.role == "assistant" else message


def permuted(items: Sequence[T], kinds: Sequence[Hashable], seed: int) -> list[T]:
    """For each item another one of its kind, each once: a random cycle through those of a kind; an
    item that is alone of its kind stays.
    """
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        places[kind].append(place)
    result = list(items)
    for number, some in enumerate(places.values()):
        random.Random(f"shuffled gold {seed} {number}").shuffle(some)
        for place, other in zip(some, some[1:] + some[:1]):
            result[place] = items[other]
    return result


class BlankImages(_OfAnother):
    """Training problems and dialogues whose images are blank ones of the same sizes.

    Args:
        source: the data set.
    """

    def _changed(self, tasks: list[Task]) -> list[Task]:
        return [replace(task, problem=blind(task.problem)) for task in tasks]

    def _changed_chats(self, chats: list[Chat]) -> list[Chat]:
        return [tuple(map(_blind_message, chat)) for chat in chats]


def blind(problem: Problem) -> Problem:
    """The problem with blank images of the same sizes. Raises ValueError for one that is none."""
    try:
        return replace(problem, images=tuple(map(_blank, problem.images)))
    except ImageError as error:
        raise ValueError(f"problem {problem.id}: {error}") from error


def _blind_message(message: Message) -> Message:
    parts: list[Any] = [_blank(p) if isinstance(p, Image) else p for p in message.content]
    return replace(message, content=tuple(parts))


def _blank(image: Image) -> Image:
    return Image(blank_image(image.source), blank=True)


def has_images(source: Source) -> bool:
    """Whether training problems or dialogues have images."""
    try:
        tasks = read_tasks(source, "train", graded=False)
    except ValueError:  # a source of dialogues only
        tasks = []
    if any(task.problem.images for task in tasks):
        return True
    if source.answers_problems():
        return False
    chats = read_dialogues(source, "train", "solve_plain")
    parts = (part for chat in chats for message in chat for part in message.content)
    return any(isinstance(part, Image) for part in parts)
