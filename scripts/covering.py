"""What the parts of truth.py share: the settings, solvers of known accuracy, and coverage."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

PROBLEMS = (30, 100, 300, 1319)
ACCURACIES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
HALF = (0.02, 0.1, 0.3, 0.5, 0.9)  # where 1 - p is much like p
LARGE = 200_000  # problems of which a truth is the mean where no formula has it
# a + b of the beta distribution of a problem's probability: nearly all or nothing, uniform at 0.5,
# much alike; all alike
SPREADS = (0.3, 2.0, 10.0, math.inf)


@dataclass(frozen=True)
class Coverage:
    """Of an interval in a setting; `width` is its mean."""

    interval: str
    setting: str
    coverage: float
    width: float


def probabilities(p: float, spread: float, size: tuple[int, int], draw: Any) -> np.ndarray:
    """Of each problem of each evaluation."""
    if math.isinf(spread):
        return np.full(size, p)
    return draw.beta(p * spread, (1 - p) * spread, size)


def measured(
    name: str,
    setting: str,
    truth: float | np.ndarray,
    intervals: Iterator[tuple[float, float]],
) -> Coverage:
    """The coverage of the intervals of many evaluations; `truth` is one for all, or of each."""
    ends = np.array(list(intervals))
    holds = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    return Coverage(name, setting, float(holds.mean()), float((ends[:, 1] - ends[:, 0]).mean()))
