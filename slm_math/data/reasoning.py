"""ReasoningGym: procedural problems of the package reasoning-gym, graded by the grader of this
project.

An item looks like this (an invented one):

    {"question": "Calculate 31 + 14. State your final answer as a number.", "answer": "45"}
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from slm_math.data.base import SPLITS, Source, Split
from slm_math.data.normalized import normalized
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


class ReasoningGym(Source):
    """Procedural problems of the package reasoning-gym (the extra `reasoning`).

    Their answers are graded as all others are, not by the package. Every split has its own range of
    seeds, and a problem is in one split only; small sets may have fewer problems than asked for.

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
        start = (self.seed * len(SPLITS) + SPLITS.index(split)) * RANGE
        gym: Any = import_module("reasoning_gym")
        items = gym.create_dataset(name, seed=start, size=max(TRIES * count, 1))
        made = 0
        for number in range(TRIES * count):
            if made == count:
                return
            item = items[number]
            text = normalized(item["question"])
            if text not in seen:
                seen.add(text)
                made += 1
                id = f"{self.name}/{name}/{start + number}"
                yield Task(Problem(id, item["question"], tags={"set": name}), item["answer"])
