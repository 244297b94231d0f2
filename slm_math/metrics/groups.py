"""Numbers that are added up by problem, for any number of problems."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

from slm_math.metrics.intervals import accuracy_of
from slm_math.records.places import Places, digest


class Groups:
    """Some numbers of each problem (samples, correct ones), added up: 12 to 34 bytes a problem and
    4 for each number.
    """

    def __init__(self, numbers: int) -> None:
        self._places = Places()  # id -> index
        self._columns = tuple(array("I") for _ in range(numbers))

    def __len__(self) -> int:
        return len(self._places)

    def add(self, id: str | int | None, numbers: Sequence[int]) -> tuple[int, ...]:
        """Adds to the numbers of a problem, and returns them."""
        index = self._places.setdefault(digest(repr(id)), len(self._places))
        new = index == len(self._columns[0])
        for column, more in zip(self._columns, numbers):
            if new:
                column.append(more)
            else:
                column[index] += more
        return tuple(numbers) if new else tuple([column[index] for column in self._columns])

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return zip(*self._columns)


class AccuracySoFar:
    """The accuracy of samples as they come: the mean over problems of their shares of correct
    samples, in what `Groups` takes.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._problems = Groups(2)
        self._counts: Counter[tuple[int, ...]] = Counter()  # problems of n samples, m correct

    def add(self, id: str, n: int, correct: int) -> None:
        """Adds n samples of a problem."""
        self.samples += n
        size, right = self._problems.add(id, (n, correct))
        self._counts[size, right] += 1
        if size > n:
            self._counts[size - n, right - correct] -= 1

    def value(self) -> tuple[float, float, float]:
        """The accuracy and its 95 % interval."""
        known = Counter[float]()
        for (n, correct), times in self._counts.items():
            if times:
                known[correct / n] += times  # one of one, and two of two
        return accuracy_of(list(known), self.samples, list(known.values()))
