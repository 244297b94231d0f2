"""Mixture: several data sets as one, with shares of the draws and without repeated problems.

source:
  class_path: Mixture
  sources:
    gsm8k: {class_path: GSM8K}
    math: {class_path: MATH}
  weights: {gsm8k: 0.3, math: 0.7}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

from slm_math.data.base import SPLITS, NoProblems, Source, Split, read_dialogues, read_tasks
from slm_math.data.files import HubFile
from slm_math.data.identity import problem_key, scene_key
from slm_math.data.published import checked_limit
from slm_math.types import Chat, Problem, Task


class Mixture(Source):
    """Several data sets as one. Ids of problems are those of the data sets; the tag `source` has
    the name of the part.

    A problem (text, choices, images, draft) that several data sets have is taken from the first of
    them, and one that any of them tests or validates on is not trained on, nor is another question
    about the same images. Validation and test have every problem once; weights act on training
    alone.

    Args:
        sources: name -> data set.
        weights: name -> its share of what an epoch of training draws; they need not add up to 1. An
            epoch has as many draws as there are rows in all. A data set with more draws than rows
            repeats rows, one with fewer goes on with the others in the next epoch. By default every
            row is drawn once, so that shares are those of the sizes.
        limits: name -> train on its first so many problems or dialogues only.
    """

    name = "mixture"

    def __init__(
        self,
        sources: dict[str, Source],
        weights: dict[str, float] | None = None,
        limits: dict[str, int] | None = None,
    ) -> None:
        if not sources:
            raise ValueError("Mixture.sources names no data set")
        for option, values in {"weights": weights, "limits": limits}.items():
            unknown = set(values or ()) - set(sources)
            if unknown:
                raise ValueError(
                    f"Mixture.{option} names {', '.join(sorted(unknown))}; the sources are "
                    f"{', '.join(sources)}"
                )
        if weights is not None:
            if missing := set(sources) - set(weights):
                raise ValueError(
                    f"Mixture.weights has none for {', '.join(sorted(missing))}: give every source "
                    "one (0 leaves it out), or none to any"
                )
            if min(weights.values()) < 0 or not 0 < sum(weights.values()) < float("inf"):
                raise ValueError(f"Mixture.weights must be positive numbers, got {weights}")
        self.sources, self.weights = sources, weights
        self.limits = {name: checked_limit(limit) for name, limit in (limits or {}).items()}

    def parts(self) -> dict[str, Source]:
        used = [name for name in self.sources if not self.weights or self.weights[name] > 0]
        return {name: MixturePart(self, name) for name in used}

    def tasks(self, split: Split) -> list[Task]:
        kept = {name: self.tasks_of(name, split) for name in self.parts()}
        owner: dict[str, str] = {}
        for name, tasks in kept.items():
            for task in tasks:
                first = owner.setdefault(task.problem.id, name)
                if first != name:
                    raise ValueError(
                        f"Mixture.sources {first} and {name} both have a problem "
                        f"{task.problem.id}: give one of them another name "
                        f"(sources.{name}.init_args.name)"
                    )
        return [task for tasks in kept.values() for task in tasks]

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        return [chat for part in self.parts().values() for chat in part.dialogues(split, prompt)]

    def twins(self, split: Split) -> list[Task]:
        return [twin for source in self.sources.values() for twin in source.twins(split)]

    def about(self, split: Split) -> str:
        lines = [source.about(split) for source in self.sources.values()]
        if left_out := self._left_out(split):
            every = ", ".join(f"{count} of {name}" for name, count in left_out.items())
            lines.append(
                f"{self.name}/{split}: left out, since another part or split has them: {every}"
            )
        return "\n".join(filter(None, lines))

    def hub_files(self) -> list[HubFile]:
        return [file for source in self.sources.values() for file in source.hub_files()]

    @cached_property
    def _read(self) -> dict[tuple[str, Split], list[Task]]:
        """The problems of all data sets in all splits that they have."""
        return {
            (name, split): list(_tagged(name, _tasks(source, split)))
            for name, source in self.sources.items()
            for split in SPLITS
        }

    @cached_property
    def _owners(self) -> dict[str, tuple[Split, str]]:
        """Where a problem is used, by its key: in the last split that any data set has it in, from
        the first data set that has it there.
        """
        owners: dict[str, tuple[Split, str]] = {}
        for split in reversed(SPLITS):
            for name in self.parts():
                for problem in self._problems(name, split):
                    owners.setdefault(problem_key(problem), (split, name))
        return owners

    @cached_property
    def _scenes(self) -> dict[str, Split]:
        """The last split in which any data set asks about a scene."""
        return {
            scene: split
            for split in SPLITS
            for name in self.parts()
            for problem in self._problems(name, split)
            if (scene := scene_key(problem))
        }

    def _problems(self, name: str, split: Split) -> list[Problem]:
        """The problems of a data set, or what its dialogues are about, where it says so."""
        if tasks := self._read[name, split]:
            return [task.problem for task in tasks]
        try:
            return self.sources[name].dialogue_problems(split) or []
        except (NoProblems, FileNotFoundError):
            return []

    def _is_used(self, problem: Problem, name: str, split: Split) -> bool:
        if self._scenes.get(scene_key(problem), split) != split:
            return False
        return self._owners.get(problem_key(problem), (split, name)) == (split, name)

    @cached_property
    def _kept(self) -> dict[Split, dict[str, list[Task]]]:
        """The problems of each split by data set, without those that another part or split has."""
        return {
            split: {
                name: [t for t in self._read[name, split] if self._is_used(t.problem, name, split)]
                for name in self.parts()
            }
            for split in SPLITS
        }

    def _left_out(self, split: Split) -> dict[str, int]:
        """The number of problems, or of dialogues about problems, that another part has, or whose
        images another split has.
        """
        counts = {}
        for name in self.parts():
            problems = self._problems(name, split)
            counts[name] = sum(not self._is_used(each, name, split) for each in problems)
        return {name: count for name, count in counts.items() if count}

    def dialogues_of(self, name: str, split: Split, prompt: str) -> list[Chat]:
        """The dialogues of a data set: those of its problems that are kept, or its own ones; of
        these, equal ones count once, and those about a problem that another part has are left out.
        """
        source = self.sources[name]
        if source.answers_problems():
            return Source.dialogues(MixturePart(self, name), split, prompt)
        try:
            chats = read_dialogues(source, split, prompt)
        except (NoProblems, FileNotFoundError):
            if split == "train":
                raise
            return []
        problems = source.dialogue_problems(split)
        if problems is not None:
            pairs = zip(chats, problems, strict=True)
            chats = [chat for chat, each in pairs if self._is_used(each, name, split)]
        chats = list(dict.fromkeys(chats))
        return chats[: self.limits.get(name)] if split == "train" else chats

    def tasks_of(self, name: str, split: Split) -> list[Task]:
        limit = self.limits.get(name) if split == "train" else None
        return self._kept[split][name][:limit]


class MixturePart(Source):
    """One data set of a mixture, as the mixture sees it."""

    def __init__(self, mixture: Mixture, part: str) -> None:
        self.mixture, self.part = mixture, part
        self.name = mixture.sources[part].name

    def tasks(self, split: Split) -> list[Task]:
        return self.mixture.tasks_of(self.part, split)

    def answers_problems(self) -> bool:
        return self.mixture.sources[self.part].answers_problems()

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        return self.mixture.dialogues_of(self.part, split, prompt)


def _tasks(source: Source, split: Split) -> list[Task]:
    """The problems of a split; none if the data set has no such split, or dialogues only."""
    try:
        return read_tasks(source, split, graded=False)
    except NoProblems:
        return []
    except FileNotFoundError:
        if split == "train":
            raise
        return []


def _tagged(name: str, tasks: list[Task]) -> Iterator[Task]:
    for task in tasks:
        tags: Any = {"source": name} | dict(task.problem.tags)
        yield replace(task, problem=replace(task.problem, tags=cast(dict, tags)))
