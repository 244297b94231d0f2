"""The single values whose means are shares: 0 or 1 of some samples, or of verdicts in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from slm_math.metrics.arrays import entries, in_order, occurrences, totals
from slm_math.metrics.columns import Samples
from slm_math.metrics.facts import Facts, Judgment
from slm_math.metrics.intervals import pooled


@dataclass(frozen=True)
class Observed:
    """Values of samples, or of the judgments in them.

    Args:
        samples: which ones.
        table: the value of each of `samples.tables.kinds`, or of `.judgments`; NaN for none.
        of_judgments: which of both.
    """

    samples: Samples
    table: np.ndarray
    of_judgments: bool = False

    @property
    def _numbers(self) -> np.ndarray:
        return self.samples.judgments.columns[0] if self.of_judgments else self.samples.kinds

    @property
    def n(self) -> int:
        counts = occurrences(self._numbers, len(self.table))
        return int(counts[~np.isnan(self.table)].sum())

    @property
    def mean(self) -> float:
        counts = occurrences(self._numbers, len(self.table))
        return float(np.nansum(counts * self.table)) / self.n

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers for which there is a value, and their units, in the order of the samples."""
        units, numbers = self.samples.units, self._numbers
        if self.of_judgments:
            units = units[self.samples.judgments.rows]
        if not np.isnan(self.table).any():
            return numbers, units
        known = entries(~np.isnan(self.table), numbers)
        return numbers[known], units[known]

    def interval(self) -> tuple[float, float, int]:
        """The 95 % interval of the mean (see `pooled`), and n."""
        codes, units = self.known()
        different, numbers = in_order(units)
        sums = totals(numbers, len(different), self.table, codes)
        sizes = occurrences(numbers, len(different))
        return (*pooled(sums.data, sizes.data), len(codes))


Observations: TypeAlias = dict[str, Observed]


def of_samples(samples: Samples, value: Callable[[Facts], float | None]) -> Observed:
    """A value of each sample for whose facts there is one."""
    return Observed(samples, samples.tables.kinds.column(value))


def of_judgments(samples: Samples, value: Callable[[Judgment], float | None]) -> Observed:
    """A value of each verdict for which there is one."""
    return Observed(samples, samples.tables.judgments.column(value), of_judgments=True)


def known(observations: Observations) -> Observations:
    """The observations without those that no sample has."""
    return {name: one for name, one in observations.items() if one.n}


def means(observations: Observations) -> dict[str, float]:
    """The mean of every metric that has values."""
    return {name: one.mean for name, one in known(observations).items()}
