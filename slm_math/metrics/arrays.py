"""Columns of numbers: values by number, groups of equal ones, several values of one sample."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np

T = TypeVar("T", bound=Hashable)
CHUNK = 1 << 16  # values that are looked at together: numpy makes 8 bytes of every index
_WIDER = {"B": "H", "H": "I", "I": "Q"}


class Whole:
    """A column of whole numbers from 0 on, one after the other, in as few bytes as the largest one
    needs.
    """

    def __init__(self) -> None:
        self._values = array("B")

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> int:
        return self._values[place]

    def __setitem__(self, place: int, value: int) -> None:
        try:
            self._values[place] = value
        except OverflowError:
            self._widen()
            self[place] = value

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def append(self, value: int) -> None:
        try:
            self._values.append(value)
        except OverflowError:
            self._widen()
            self.append(value)

    def fill(self, length: int) -> None:
        """Appends zeros up to a length."""
        missing = length - len(self._values)
        if missing > 0:
            self._values.frombytes(bytes(missing * self._values.itemsize))

    def _widen(self) -> None:
        self._values = array(_WIDER[self._values.typecode], self._values)

    def column(self) -> np.ndarray:
        return as_column(self._values)


class Codes(Generic[T]):
    """Different values, each with a number, of which there are few."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def column(self, of: Callable[[T], float | None]) -> np.ndarray:
        """A number for every value, (len,) float64; NaN for None."""
        column = [of(value) for value in self.values]
        return np.array([np.nan if one is None else one for one in column], dtype=float)


class Labels:
    """The classes that the answers of problems were found to be in, for all who ask again: 1 to 4
    bytes a sample.
    """

    def __init__(self) -> None:
        self._codes = Whole()  # by row: 0 where nobody asked, 1 for no answer, else 2 + class
        self._sizes = Whole()  # by problem: of how many samples

    def get(self, problem: int, rows: list[int]) -> list[int | None] | None:
        """The classes of the samples in some rows, if they were found for these and no others."""
        if problem >= len(self._sizes) or self._sizes[problem] != len(rows):
            return None
        codes = [self._codes[row] if row < len(self._codes) else 0 for row in rows]
        if 0 in codes or rows != sorted(rows):  # the order decides
            return None
        return [code - 2 if code > 1 else None for code in codes]

    def set(self, problem: int, rows: list[int], labels: list[int | None]) -> None:
        """Remembers classes, if there are none of other samples of the problem."""
        self._sizes.fill(problem + 1)
        if self._sizes[problem] or rows != sorted(rows):
            return
        self._sizes[problem] = len(rows)
        self._codes.fill(max(rows) + 1)
        for row, label in zip(rows, labels):
            self._codes[row] = 1 if label is None else label + 2


@dataclass(frozen=True)
class Ragged:
    """Any number of values of each sample: of one after the other, as columns of one length.
    `counts` is by sample.
    """

    counts: np.ndarray
    columns: tuple[np.ndarray, ...]

    def of(self, rows: np.ndarray) -> Ragged:
        """The values of the samples that a mask or places choose."""
        if rows.dtype == bool:
            values = np.zeros(len(self.columns[0]) if self.columns else 0, bool)
            end = 0
            for part in chunks(len(rows)):
                some = np.repeat(rows[part], self.counts[part])
                values[end : end + len(some)] = some
                end += len(some)
            return Ragged(self.counts[rows], tuple(column[values] for column in self.columns))
        ends = np.cumsum(self.counts, dtype=np.int64)
        counts = self.counts[rows]
        starts = ends[rows] - counts
        firsts = np.cumsum(counts, dtype=np.int64) - counts
        places = np.repeat(starts - firsts, counts) + np.arange(int(counts.sum(dtype=np.int64)))
        return Ragged(counts, tuple(column[places] for column in self.columns))

    @property
    def rows(self) -> np.ndarray:
        """The sample that each value belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sums(self, column: int) -> np.ndarray:
        """The sum of a column's values of each sample."""
        return np.bincount(self.rows, weights=self.columns[column], minlength=len(self.counts))


def chunks(length: int) -> Iterator[slice]:
    """Slices that make up a column."""
    return (slice(start, start + CHUNK) for start in range(0, length, CHUNK))


def entries(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`table[numbers]`, in less memory."""
    values = np.empty(len(numbers), table.dtype)
    for part in chunks(len(numbers)):
        values[part] = table[numbers[part]]
    return values


def totals(numbers: np.ndarray, n: int, table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The sums over all i with each of n numbers of `table[codes[i]]`, in order, (n,) float64."""
    sums = np.zeros(n)
    for part in chunks(len(numbers)):
        np.add.at(sums, numbers[part], table[codes[part]])
    return sums


def occurrences(numbers: np.ndarray, n: int) -> np.ndarray:
    """How often each of n numbers occurs, (n,) int32."""
    counts = np.zeros(n, np.int32)
    for part in chunks(len(numbers)):
        some = numbers[part]
        np.add.at(counts, some, np.ones(len(some), np.int32))  # a number instead takes far longer
    return counts


def in_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values in the order in which they first occur, and for every value its number
    among these.
    """
    if values.dtype.kind == "u" and values.max(initial=0) < 2 * len(values):
        return _in_order_by_table(values)
    different, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return different[order], numbers[inverse]


def _in_order_by_table(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `in_order`, for small numbers: nothing is sorted, if they come in ascending order."""
    firsts = np.full(int(values.max()) + 1, len(values), np.uint32)
    for part in reversed(
        list(chunks(len(values)))
    ):  # where a value occurs twice, the last one stays
        some = values[part][::-1]
        firsts[some] = np.arange(part.start + len(some) - 1, part.start - 1, -1)
    different = np.flatnonzero(firsts < len(values)).astype(values.dtype)
    firsts = firsts[firsts < len(values)]
    if (firsts[1:] < firsts[:-1]).any():
        different = different[np.argsort(firsts)]
    numbers = np.empty(int(values.max()) + 1, np.int32)
    numbers[different] = np.arange(len(different), dtype=np.int32)
    return different, entries(numbers, values)


def counted(values: np.ndarray) -> tuple[list[int], list[int]]:
    """The different numbers in the order in which they first occur, and how often they do."""
    different, numbers = in_order(values)
    return different.tolist(), occurrences(numbers, len(different)).tolist()


def grouped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of equal values, group after group in the order in which they first occur, and
    where in them each group starts, and an end.
    """
    different, numbers = in_order(values)
    sizes = occurrences(numbers, len(different))
    return np.argsort(numbers, kind="stable"), np.concatenate(([0], np.cumsum(sizes)))


def as_column(values: array[Any]) -> np.ndarray:
    return (
        np.frombuffer(values, cast(Any, values.typecode))
        if values
        else np.zeros(0, values.typecode)
    )


def ragged(counts: Whole, *columns: Whole | array[float]) -> Ragged:
    """Columns of values; `counts` says how many of them belong to each sample."""
    return Ragged(
        counts.column(),
        tuple(one.column() if isinstance(one, Whole) else as_column(one) for one in columns),
    )
