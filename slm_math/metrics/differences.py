"""95 % intervals of paired differences: one sample per problem, several, and clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slm_math.metrics.intervals import Z, t_point

PARTIAL = 0.1  # of a unit; chosen by the coverage of the intervals (docs/truth.md)


def paired_interval(gained: float, lost: float, n: int) -> tuple[float, float]:
    """95 % interval of `(gained - lost) / n` for n pairs, with 1/2 added to each of the four cells
    (Agresti and Min 2005).
    """
    center = (gained - lost) / (n + 2)
    half = Z * math.sqrt(gained + lost + 1 - (gained - lost) ** 2 / (n + 2)) / (n + 2)
    return max(center - half, -1.0), min(center + half, 1.0)


def spread_interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of the problems' differences, from their variance (see
    `interval_of`).

    Without any variance, the interval is that of one sample per problem.
    """
    n = len(differences)
    if len(set(differences)) > 1:
        mean = math.fsum(differences) / n
        return interval_of(mean, math.fsum((each - mean) ** 2 for each in differences), n)
    gained, lost = sum(d for d in differences if d > 0), -sum(d for d in differences if d < 0)
    return paired_interval(gained, lost, n)


def spread_error(differences: Sequence[float]) -> float:
    """Standard error of the mean of the problems' differences; 0 for a single one."""
    n, mean = len(differences), math.fsum(differences) / len(differences)
    squares = math.fsum((difference - mean) ** 2 for difference in differences)
    return math.sqrt(squares / max(n - 1, 1) / n)


def clustered_interval(clusters: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % interval of the mean of all differences in clusters of unequal sizes, from the variance
    of a ratio of sums over clusters (Cochran 1977, section 6.3; see `interval_of`).
    """
    n, total = len(clusters), sum(map(len, clusters))
    mean = math.fsum(map(math.fsum, clusters)) / total
    squares = _squares(clusters, mean)
    if n < 2 or not squares:
        return spread_interval([math.fsum(some) / len(some) for some in clusters])
    return interval_of(mean, squares * (n / total) ** 2, n)


def clustered_error(clusters: Sequence[Sequence[float]]) -> float:
    """Standard error of this mean; 0 for a single cluster."""
    n, total = len(clusters), sum(map(len, clusters))
    mean = math.fsum(map(math.fsum, clusters)) / total
    return math.sqrt(n / max(n - 1, 1) * _squares(clusters, mean)) / total * (n > 1)


def interval_of(mean: float, squares: float, n: int) -> tuple[float, float]:
    """95 % interval of the mean of n independent units, given the sum of the squared deviations
    from it, in units (Student's t with n - 1 degrees of freedom).

    The variance is that of the units and of two more, one that gains all and one that loses all,
    each of which counts as `PARTIAL` of a unit. Without these, the interval is too narrow where few
    units changed at all, since the largest changes are then seldom among those that were seen.
    """
    half = t_point(n - 1) * math.sqrt(variance_of(mean, squares, n) / n)
    return max(mean - half, -1.0), min(mean + half, 1.0)


def variance_of(mean: float, squares: float, n: int) -> float:
    """The variance of n units and of the two partial ones (see `interval_of`)."""
    squares += PARTIAL * ((1 - mean) ** 2 + (1 + mean) ** 2)
    return squares / (n - 1 + 2 * PARTIAL)


def _squares(clusters: Sequence[Sequence[float]], mean: float) -> float:
    """The sum of the squared deviations of the clusters' sums from those of their size."""
    return math.fsum((math.fsum(some) - mean * len(some)) ** 2 for some in clusters)
