"""How many problems and samples a paired comparison needs, and what it could see.

One sample per problem: the exact power of McNemar's exact test, a binomial test of the discordant
problems, whose number is itself binomial (Miettinen 1968; the normal approximation is Connor's,
Biometrics 1987, 43:207). Several samples: a normal approximation of the same kind from the variance
of the problems' differences, which has a part between problems and a part that more samples reduce.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from slm_math.metrics.intervals import Z

POWER = 0.8
Z_POWER = NormalDist().inv_cdf(POWER)
LEVEL = 0.05
EXACT = 4000  # discordant problems up to which the power is exact
WIDE = 8.0  # standard deviations of their number that count
MOST = 100_000_000  # problems


def connor_power(n: float, mean_square: float, difference: float) -> float:
    """Power of a two-sided paired test at 5 % with n problems, by the normal approximation.

    Args:
        mean_square: of the problems' differences; of one sample per problem the discordance, the
            share of problems on which the runs differ.
        difference: of the accuracies, a share.
    """
    variance = mean_square - difference**2
    if n <= 0 or mean_square <= 0:
        return 0.0
    if variance <= 0:
        return float(abs(difference) * math.sqrt(n) > Z * math.sqrt(mean_square))
    distance = abs(difference) * math.sqrt(n) - Z * math.sqrt(mean_square)
    return NormalDist().cdf(distance / math.sqrt(variance))


def mcnemar_power(n: int, discordance: float, difference: float) -> float:
    """Probability that McNemar's exact test of n problems has p < 5 % in either direction.

    The number of discordant problems is binomial, and given it, so is that of the problems gained.
    With more than 4,000 discordant problems expected it is the normal approximation.
    """
    discordance = min(max(discordance, abs(difference)), 1.0)
    if n * discordance > EXACT:
        return connor_power(n, discordance, difference)
    if n <= 0 or not discordance:
        return 0.0
    center = n * discordance
    reach = WIDE * math.sqrt(center * max(1 - discordance, 0.0)) + 10
    low, high = max(0, math.floor(center - reach)), min(n, math.ceil(center + reach))
    weights = _binomial(n, discordance, np.arange(low, high + 1))
    gains = min((discordance + abs(difference)) / (2 * discordance), 1.0)
    rejects = [_rejects(m, gains) for m in range(low, high + 1)]
    return float(min(1.0, np.dot(weights, rejects)))


def _binomial(n: int, share: float, counts: np.ndarray) -> np.ndarray:
    """Probabilities of counts among n."""
    if share in (0.0, 1.0):
        return (counts == n * share).astype(float)
    factorials = _log_factorials(n)
    logs = factorials[n] - factorials[counts] - factorials[n - counts]
    return np.exp(logs + counts * math.log(share) + (n - counts) * math.log1p(-share))


_FACTORIALS = np.zeros(1)


def _log_factorials(n: int) -> np.ndarray:
    """Logarithms of 0! to n!, or more of them."""
    global _FACTORIALS
    if len(_FACTORIALS) <= n:
        size = 1 << (n + 1).bit_length()
        logs = np.log(np.arange(1, size, dtype=float))
        _FACTORIALS = np.concatenate(([0.0], np.cumsum(logs)))
    return _FACTORIALS


def _rejects(m: int, gains: float) -> float:
    """Probability that a two-sided exact binomial test rejects 1/2, if each of m problems is gained
    with this probability.
    """
    critical = _critical(m)
    if critical < 0:
        return 0.0
    tail = np.arange(critical + 1)
    return float(_binomial(m, gains, tail).sum() + _binomial(m, 1 - gains, tail).sum())


_CRITICAL: dict[int, int] = {}


def _critical(m: int) -> int:
    """The largest count c for which twice the probability of at most c of m is below 5 %; -1 if
    there is none.
    """
    if m not in _CRITICAL:
        half = np.cumsum(_binomial(m, 0.5, np.arange(m // 2 + 1)))
        _CRITICAL[m] = int(np.searchsorted(half, LEVEL / 2, side="left")) - 1
    return _CRITICAL[m]


@dataclass(frozen=True)
class Variances:
    """The variance of a problem's difference: `between` problems, and `within` them for one sample
    of each run, which k samples divide by k.
    """

    between: float
    within: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int, int, int]]) -> Variances:
        """From a pilot: of each problem right and sampled of a, right and sampled of b. Unbiased,
        with several samples of both; negative estimates are 0.
        """
        n = len(pairs)
        differences = [c / d - a / b for a, b, c, d in pairs]
        mean = math.fsum(differences) / n
        total = math.fsum((each - mean) ** 2 for each in differences) / max(n - 1, 1)
        noise = [_noise(a, b) + _noise(c, d) for a, b, c, d in pairs]
        within = math.fsum(noise) / n
        averaged = math.fsum(_noise(a, b) / b + _noise(c, d) / d for a, b, c, d in pairs) / n
        return cls(max(total - averaged, 0.0), within)

    def of_samples(self, samples: int) -> float:
        """The variance with as many samples of both runs."""
        return self.between + self.within / samples


def _noise(right: int, n: int) -> float:
    """Unbiased variance of one sample of a problem; 0 for a single one, of which nothing is
    known.
    """
    share = right / n
    return share * (1 - share) * n / (n - 1) if n > 1 else 0.0


@dataclass(frozen=True)
class Design:
    """A paired comparison that is planned, with a guess or an estimate of how much runs differ.

    Args:
        samples: per problem, of both runs.
        discordance: share of problems on which single samples of the runs differ.
        variances: from a pilot with several samples; without it a number of samples above one is
            taken to reduce nothing.
        design: design effect of clusters: how many times larger the variance of the mean is than
            if the problems were independent.
    """

    samples: int = 1
    discordance: float = 0.2
    variances: Variances | None = None
    design: float = 1.0

    def power(self, n: int, difference: float) -> float:
        """The power with n problems."""
        if self.variances is not None and self.samples > 1:
            variance = self.design * self.variances.of_samples(self.samples)
            return connor_power(n, variance + difference**2, difference)
        return mcnemar_power(int(n / self.design), self.discordance, difference)

    def problems(self, difference: float, power: float = POWER) -> int | None:
        """The number of problems with which a difference is seen; None for more than 100
        million.
        """
        return _smallest(lambda n: self.power(n, difference) >= power)

    def detectable(self, n: int, power: float = POWER) -> float | None:
        """The smallest difference that n problems see; None if they see none."""
        return _detectable(lambda difference: self.power(n, difference), power)


def _smallest(enough: Callable[[int], bool]) -> int | None:
    high = 1
    while not enough(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _detectable(of: Callable[[float], float], power: float) -> float | None:
    low, high = 0.0, 1.0
    if of(high) < power:
        return None
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if of(middle) >= power else (middle, high)
    return high


def detectable_single(gained: int, lost: int, n: int) -> float | None:
    """The smallest difference that a comparison of one sample per problem could see with 80 %
    power, at the discordance that it found (1/2 added to each cell, so that it is never 0).
    """
    return Design(discordance=(gained + lost + 1) / (n + 2)).detectable(n)


def detectable_spread(error: float) -> float | None:
    """The same from the standard error of a difference."""
    return min((Z + Z_POWER) * error, 1.0) if error > 0 else None
