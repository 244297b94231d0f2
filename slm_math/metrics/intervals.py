"""95 % intervals of shares, for one sample per problem and for several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from operator import mul

Z = 1.959963984540054  # the normal distribution's 97.5 % point
PRIOR = 0.2  # of a problem; chosen by the coverage of the intervals (docs/truth.md)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """95 % interval of a share `successes / n` (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    center = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return 0.0 if successes == 0 else center - half, 1.0 if successes == n else center + half


@cache
def t_point(freedom: int) -> float:
    """The 97.5 % point of Student's t with `freedom` degrees of freedom, to 7 digits.

    By bisection of the distribution up to 30 degrees of freedom; beyond, where it is exact enough,
    by its expansion around the normal distribution's point (Abramowitz and Stegun, 26.7.5).
    """
    if freedom <= 30:
        low, high = Z, 13.0  # the points of infinitely many degrees of freedom, and above that of 1
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if t_inside(middle, freedom) < 0.95 else (low, middle)
        return high
    z, v = Z, freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / v**power for power, term in enumerate(terms, 1))


def t_inside(t: float, freedom: int) -> float:
    """The probability that Student's t lies between -t and t (Abramowitz and Stegun, 26.7.3 and
    26.7.4).
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (power - 1) / power * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def ratio(
    parts: Sequence[float], wholes: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """A ratio of sums over independent units (problems), and its 95 % interval: by default, where
    each unit counts once, the mean with Student's t.

    The interval is Fieller's (1954), which is not symmetrical, and has no upper end where the sum
    of the wholes may be 0; of amounts, which are never negative. (nan, 0, inf) if that sum is 0.
    """
    wholes = [1.0] * len(parts) if wholes is None else wholes
    n, part, whole = len(parts), math.fsum(parts), math.fsum(wholes)
    if not whole:
        return math.nan, 0.0, math.inf
    if n < 2:
        return part / whole, 0.0, math.inf
    factor = t_point(n - 1) ** 2 * n / (n - 1)

    def covariance(one: Sequence[float], other: Sequence[float]) -> float:
        means = math.fsum(one) / n, math.fsum(other) / n
        return factor * math.fsum((a - means[0]) * (b - means[1]) for a, b in zip(one, other))

    # the ratios r for which the sum of part - r * whole may be 0
    square = whole * whole - covariance(wholes, wholes)
    linear = part * whole - covariance(parts, wholes)
    constant = part * part - covariance(parts, parts)
    root = math.sqrt(max(linear * linear - square * constant, 0.0))
    if square <= 0:
        low = (linear - root) / square if square and linear * linear > square * constant else 0.0
        return part / whole, max(low, 0.0), math.inf
    return part / whole, max((linear - root) / square, 0.0), (linear + root) / square


def mean_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """The mean of independent values, and its 95 % interval by Student's t, whose ends are the mean
    itself for a single value; None without values.
    """
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    squares = math.fsum((value - mean) ** 2 for value in values)
    half = t_point(n - 1) * math.sqrt(squares / (n - 1) / n) if n > 1 else 0.0
    return mean, mean - half, mean + half


def projected(values: Sequence[float], total: int) -> tuple[float, float, float]:
    """The sum over `total` units of which these are the values of some, and its 95 % prediction
    interval, if these are a random sample: what is known, and Student's t for the sum of the rest.
    """
    n, known = len(values), math.fsum(values)
    rest = max(total - n, 0)
    if not rest:
        return known, known, known
    if n < 2:
        return (known + rest * known / n if n else math.nan), known, math.inf
    mean = known / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_point(n - 1) * deviation * math.sqrt(rest * rest / n + rest)
    return known + rest * mean, max(known, known + rest * mean - half), known + rest * mean + half


def clustered(shares: Sequence[float], counts: Sequence[int] | None = None) -> tuple[float, float]:
    """95 % interval of a mean over problems, each with a share of correct samples (or another value
    between 0 and 1), from the variance between problems.

    It is Wilson's interval for the number of independent samples that would have the same variance,
    times the squared ratio of the normal point to Student's t: the effective number of Korn and
    Graubard (1998), who take the interval of Clopper and Pearson for it. `counts` says how many
    problems have each share; by default one. The variance is that of the problems and of two more,
    of which each counts as `PRIOR` of one: one solved in all samples, the other in none. Without
    them, the interval is too narrow where few problems say all, such as one that is solved among
    thirty.
    Problems that all have the same share count as one sample each: two
    problems without a correct sample do not prove that the third one has none.
    """
    weights = [1] * len(shares) if counts is None else counts
    n = sum(weights)
    if n < 2:
        return 0.0, 1.0
    mean = sum(w * share for w, share in zip(weights, shares)) / n
    if all(share == shares[0] for share in shares):
        return wilson(mean * n, n)
    squares = sum(w * (share - mean) ** 2 for w, share in zip(weights, shares))
    return _of_variance(mean, squares, n)


def _of_variance(mean: float, squares: float, n: int) -> tuple[float, float]:
    """Wilson's interval for the effective number of samples, given the sum of the squared
    deviations of n problems from their mean.
    """
    squares += PRIOR * (mean**2 + (1 - mean) ** 2)
    variance = squares / (n - 1 + 2 * PRIOR) / n
    effective = mean * (1 - mean) / variance * (Z / t_point(n - 1)) ** 2
    return wilson(mean * effective, effective)


def interval(
    shares: Sequence[float], samples: int, counts: Sequence[int] | None = None
) -> tuple[float, float]:
    """95 % interval of an accuracy, from the share of correct samples of each problem: Wilson's for
    one sample per problem, else `clustered`. `counts` says how many problems have each share.
    """
    n = len(shares) if counts is None else sum(counts)
    if samples != n:
        return clustered(shares, counts)
    return wilson(sum(shares) if counts is None else sum(map(mul, shares, counts)), n)


def accuracy_of(
    shares: Sequence[float], samples: int, counts: Sequence[int] | None = None
) -> tuple[float, float, float]:
    """The accuracy of `samples` samples, which is the mean over problems of their shares of correct
    ones, and its 95 % interval. `counts` says how many problems have each share; (0, 0, 1) without
    any.
    """
    weights = [1] * len(shares) if counts is None else counts
    mean = math.fsum(map(mul, shares, weights)) / max(sum(weights), 1)
    return mean, *interval(shares, samples, counts)


def pooled(sums: Sequence[float], sizes: Sequence[int]) -> tuple[float, float]:
    """95 % interval of the mean of all values (between 0 and 1), given the sum and the number of
    those of each unit, of which some have more than others.

    Wilson's for one value each. Else the variance is that of a ratio of sums over units (Cochran
    1977, section 6.3), and the interval as in `clustered`.
    """
    n, total = len(sizes), sum(sizes)
    share = sum(sums) / total
    if total == n or n < 2 or share in (0.0, 1.0):
        return wilson(share * n, n)
    mean = total / n
    squares = sum(((own - share * size) / mean) ** 2 for own, size in zip(sums, sizes))
    if not squares:
        return wilson(share * n, n)
    return _of_variance(share, squares, n)
