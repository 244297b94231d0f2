"""ReasoningGym: procedural problems of the package reasoning-gym, graded by the grader of this
project.

An item looks like this (an invented one):

    {"question": "Calculate 31 + 14. State your final answer as a number.", "answer": "45"}
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from slm_math.answers import grade_answer
from slm_math.data.base import SPLITS, Source, Split
from slm_math.data.normalized import normalized
from slm_math.data.twins import as_twin
from slm_math.extras import install
from slm_math.ranges import check_whole
from slm_math.types import Problem, Task

# sets of mathematical problems whose answers the grader reads, and recognizes as right
SETS = (
    "basic_arithmetic",
    "chain_sum",
    "count_bits",
    "count_primes",
    "decimal_chain_sum",
    "fraction_simplification",
    "gcd",
    "gsm_symbolic",
    "lcm",
    "leg_counting",
    "letter_counting",
    "number_sequence",
    "polynomial_multiplication",
    "products",
    "simple_equations",
    "simple_geometry",
)
RANGE = 100_000_000  # item n of a set is made from its seed plus n
TRIES = 5  # items that are made at most for each problem, as small sets repeat theirs
TWINS = RANGE // 2  # items from here on in the range of a split are for twins
POOL = 500  # items for each problem of a set with templates, of which those of one are made
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


class ReasoningGym(Source):
    """Procedural problems of the package reasoning-gym (the extra `reasoning`).

    Their answers are graded as all others are, not by the package. Every split has its own range of
    seeds, and a problem is in one split only; small sets may have fewer problems than asked for.
    Those of gsm_symbolic name their template in a tag. Test and validation problems have twins: of
    the same set and template, made from another seed.

    Args:
        sets: the package's data sets, in equal parts.
        train: training problems, of all sets together.
        validation: held-out problems.
        test: test problems.
        seed: decides the problems.
    """

    name = "reasoning_gym"

    def __init__(
        self,
        sets: list[str] | None = None,
        train: int = 4000,
        validation: int = 200,
        test: int = 500,
        seed: int = 0,
    ) -> None:
        self.sets = list(dict.fromkeys(SETS if sets is None else sets))
        if unknown := [name for name in self.sets if name not in SETS]:
            raise ValueError(
                f"ReasoningGym.sets names {', '.join(unknown)}; sets whose answers can be graded "
                f"are {', '.join(SETS)}"
            )
        self.counts = {"train": train, "validation": validation, "test": test}
        for option, count in self.counts.items():
            check_whole(f"ReasoningGym.{option}", count)
        check_whole("ReasoningGym.seed", seed, low=0)
        self.seed = seed
        if find_spec("reasoning_gym") is None:
            raise ValueError(
                f"ReasoningGym needs the package reasoning-gym: {install('reasoning')}"
            )

    def tasks(self, split: Split) -> list[Task]:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        return self._splits[split]

    @cached_property
    def _splits(self) -> dict[Split, list[Task]]:
        """All splits; the test problems are made first, and are in no other one."""
        seen: set[str] = set()
        return {split: self._made(split, seen) for split in reversed(SPLITS)}

    def _made(self, split: Split, seen: set[str]) -> list[Task]:
        whole, rest = divmod(self.counts[split], len(self.sets))
        tasks: list[Task] = []
        for place, name in enumerate(self.sets):
            count = whole + (place < rest)
            tasks += self._of_set(name, split, count, seen)
        return tasks

    def _of_set(self, name: str, split: Split, count: int, seen: set[str]) -> Iterator[Task]:
        """Up to so many problems of a set, whose texts are not among those `seen`."""
        items = _Items(name, self._start(split), TRIES * count)
        made = 0
        for number in range(TRIES * count):
            if made == count:
                return
            task = items.task(number)
            text = normalized(task.problem.text)
            if text not in seen:
                seen.add(text)
                made += 1
                yield task

    def _start(self, split: Split) -> int:
        """The first seed of a split."""
        return (self.seed * len(SPLITS) + SPLITS.index(split)) * RANGE

    def twins(self, split: Split) -> list[Task]:
        """To each test or validation problem another one of its set and template, from a seed that
        no split has, with another answer; of sets without templates one with the same words, if
        there is any.
        """
        if split == "train":
            return []
        seen = {normalized(task.problem.text) for each in SPLITS for task in self.tasks(each)}
        by_set: dict[str, list[Task]] = {}
        for task in self.tasks(split):
            by_set.setdefault(task.problem.tags["set"], []).append(task)
        found: dict[str, Task] = {}
        for name, parents in by_set.items():
            items = _Items(name, self._start(split) + TWINS, POOL * len(parents))
            for parent in parents:
                twin = items.like(parent, seen)
                if twin is not None:
                    seen.add(normalized(twin.problem.text))
                    found[parent.problem.id] = as_twin(twin, parent.problem)
        return [found[task.problem.id] for task in self.tasks(split) if task.problem.id in found]


class _Items:
    """Items of a set of the package, from a seed on."""

    def __init__(self, name: str, seed: int, size: int) -> None:
        gym: Any = import_module("reasoning_gym")
        self.name, self.seed = name, seed
        self.items = gym.create_dataset(name, seed=seed, size=max(size, 1))
        # by item, which the package does not write into items
        self.templates: list[int] | None = getattr(self.items, "task_indices", None)

    def task(self, number: int) -> Task:
        item = self.items[number]
        tags = {"set": self.name}
        if self.templates is not None:
            tags["template"] = f"{self.name}/{self.templates[number]}"
        id = f"{ReasoningGym.name}/{self.name}/{self.seed + number}"
        return Task(Problem(id, item["question"], tags=tags), item["answer"])

    @cached_property
    def _first(self) -> list[Task]:
        """The first items, a hundredth of all."""
        return [self.task(number) for number in range(len(self.items) * TRIES // POOL)]

    def like(self, parent: Task, seen: set[str]) -> Task | None:
        """An item whose text is not among those `seen`, with another answer than a problem: of its
        template, or with the same words, or if there is none, the first one.
        """
        if self.templates is None:
            words = _words(parent)
            alike = [task for task in self._first if _words(task) == words]
            candidates: Iterator[Task] = iter([*alike, *self._first])
        else:
            own = int(parent.problem.tags["template"].rpartition("/")[2])
            places = (place for place, one in enumerate(self.templates) if one == own)
            candidates = map(self.task, places)
        for task in candidates:
            if normalized(task.problem.text) in seen:
                continue
            if not grade_answer(task.gold, parent).equal:
                return task
        return None


def _words(task: Task) -> str:
    """The text of a problem without its numbers."""
    return _NUMBER.sub("#", task.problem.text)
