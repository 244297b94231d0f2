"""What a run made of each problem, as columns, for comparisons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from slm_math.metrics.arrays import as_column, in_order
from slm_math.metrics.columns import Samples
from slm_math.records.record import Record

FLIPS = (
    "gained and lost count problems that one run solves in more than half of its samples, and the "
    "other in fewer than half of its own; the difference counts every sample"
)


@dataclass(frozen=True)
class Outcome:
    """The samples of a run by problem, in the order in which problems first occur, (P,) each.

    Args:
        samples: of the run; `broken` of them broke.
        problems: numbers in their table.
        right, sizes: how many samples are correct, and how many there are.
        units: the independent observation that a problem belongs to, and `verdicts`: whether it is
            a draft to judge, of its last sample.
        last: the place of this sample.
        blind: whether images of any of its samples were blank.
    """

    samples: Samples
    broken: int
    problems: np.ndarray
    right: np.ndarray
    sizes: np.ndarray
    units: np.ndarray
    last: np.ndarray
    blind: np.ndarray

    @property
    def single(self) -> bool:
        """Whether every problem has one sample."""
        return bool((self.sizes == 1).all())

    @property
    def rules(self) -> np.ndarray:
        """Digests of what the answers of problems are graded by, but for images."""
        return as_column(self.samples.tables.rules)[self.problems]

    @property
    def shown(self) -> np.ndarray:
        """Digests of the images of problems, 0 for none."""
        shown = as_column(self.samples.tables.shown)
        return shown[self.problems] if len(shown) else np.zeros(len(self.problems), np.int64)

    def id(self, place: int) -> str:
        """The id of a problem."""
        return self.samples.tables.problems[int(self.problems[place])]

    def record(self, place: int) -> Record:
        """The last record of a problem, read again."""
        return self.samples.record(int(self.last[place]))

    def places_in(self, other: Outcome) -> np.ndarray:
        """Where each problem is in another run; -1 for one that it does not have."""
        places = np.full(len(other.samples.tables.problems) + 1, -1, np.int64)
        places[other.problems] = np.arange(len(other.problems))
        numbers = self.samples.tables.problems.numbers_in(other.samples.tables.problems)
        return places[numbers[self.problems]]  # the last one is -1


def outcome(samples: Samples) -> Outcome:
    """What a run made of each problem; samples that broke are incorrect."""
    different, numbers = in_order(samples.problems)
    n = len(different)
    last = np.empty(n, np.int64)
    last[numbers] = np.arange(len(samples))
    right = samples.sums(lambda one: one.correct and not one.broken, numbers, n)
    blind = samples.sums(lambda one: one.blind, numbers, n)
    return Outcome(
        samples=samples,
        broken=int(samples.total(lambda one: one.broken)),
        problems=different,
        right=right.astype(np.int64),
        sizes=np.bincount(numbers, minlength=n),
        units=samples.units[last],
        last=last,
        blind=blind > 0,
    )


def flips_lines(runs: Iterable[Samples]) -> list[str]:
    """What gained and lost count, where any run has several samples of a problem."""
    if all(len(samples) == len(np.unique(samples.problems)) for samples in runs):
        return []
    return [FLIPS]
