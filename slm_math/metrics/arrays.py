"""Columns of numbers: values by number, groups of equal ones, several values of one sample."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np

T = TypeVar("T", bound=Hashable)


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


@dataclass(frozen=True)
class Ragged:
    """Any number of values of each sample: of one after the other, as columns of one length.
    `counts` is by sample.
    """

    counts: np.ndarray
    columns: tuple[np.ndarray, ...]

    def of(self, rows: np.ndarray) -> Ragged:
        """The values of some samples."""
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


def in_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values in the order in which they first occur, and for every value its number
    among these.
    """
    different, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return different[order], numbers[inverse]


def counted(values: np.ndarray) -> tuple[list[int], list[int]]:
    """The different numbers in the order in which they first occur, and how often they do."""
    different, firsts, counts = np.unique(values, return_index=True, return_counts=True)
    order = np.argsort(firsts)
    return different[order].tolist(), counts[order].tolist()


def grouped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of equal values, group after group in the order in which they first occur, and
    where in them each group starts, and an end.
    """
    different, numbers = in_order(values)
    sizes = np.bincount(numbers, minlength=len(different))
    return np.argsort(numbers, kind="stable"), np.concatenate(([0], np.cumsum(sizes)))


def as_column(values: array[Any]) -> np.ndarray:
    return (
        np.frombuffer(values, cast(Any, values.typecode))
        if values
        else np.zeros(0, values.typecode)
    )


def ragged(counts: array[int], *columns: array[Any]) -> Ragged:
    """Columns of values; `counts` says how many of them belong to each sample."""
    return Ragged(as_column(counts), tuple(map(as_column, columns)))
