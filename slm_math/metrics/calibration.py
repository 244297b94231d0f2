"""Whether the share of a verifier's verdicts that say CORRECT is the share of right drafts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from slm_math.answers.verdicts import DECISIONS
from slm_math.metrics.arrays import in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.facts import SIDES
from slm_math.metrics.intervals import pooled
from slm_math.records.record import Record

BINS = 5  # of vote shares
RESAMPLES = 2000
LARGEST = 1 << 22  # numbers of draws in memory at a time
RIGHT = DECISIONS[0]


@dataclass(frozen=True)
class VoteBin:
    """`n` drafts of which a similar share of the verdicts says CORRECT (`share`, their mean), or
    winners with a similar share of the votes, and the share of them that is `right`, with its 95 %
    interval (problems are the units).
    """

    share: float
    right: float
    low: float
    high: float
    n: int


def bin_of(share: float) -> int:
    """The number of the bin that a share of votes belongs to: (0.4, 0.6] is one, and 0 belongs to
    the first.
    """
    # a share of 0.6 belongs to (0.4, 0.6], although 0.6 * 5 may exceed 3 in floating point
    return min(max(math.ceil(share * BINS - 1e-6) - 1, 0), BINS - 1)


@dataclass(frozen=True)
class VoteShares:
    """Of every draft with several samples and a verdict: the unit, the share of the verdicts that
    say CORRECT, and whether the draft is right; (drafts,) each. Of votes of a whole agent: the
    share of the winner, and whether it is correct (`winner_shares`).
    """

    units: np.ndarray
    shares: np.ndarray
    right: np.ndarray

    @property
    def bins(self) -> np.ndarray:
        return np.array([bin_of(share) for share in self.shares], dtype=int)


def vote_shares(records: Samples | Iterable[Record]) -> VoteShares:
    """The shares of drafts, in order; those without a verdict are left out."""
    samples = Samples.of(records)
    judged = samples.where(samples.fact(lambda one: bool(one.side)) > 0)
    different, numbers = in_order(judged.problems)
    firsts = np.zeros(len(different), int)
    firsts[numbers[::-1]] = np.arange(len(judged))[::-1]
    answer = judged.tables.answers.get(RIGHT)
    approved = judged.answers == (0 if answer is None else answer + 1)
    answered = judged.answers > 0
    votes = np.bincount(numbers, weights=answered, minlength=len(different))
    says = np.bincount(numbers, weights=answered & approved, minlength=len(different))
    several = (np.bincount(numbers, minlength=len(different)) > 1) & (votes > 0)
    right = judged.fact(lambda one: one.side == SIDES[0]) > 0
    return VoteShares(
        judged.units[firsts][several], (says[several] / votes[several]), right[firsts][several]
    )


def winner_shares(records: Samples | Iterable[Record]) -> VoteShares:
    """The shares of the winners of votes of a whole agent, in order."""
    samples = Samples.of(records)
    kinds = samples.tables.kinds.values
    if not any(one.votes for one, _ in samples.counted()):
        return VoteShares(np.empty(0, samples.units.dtype), np.empty(0), np.empty(0, bool))
    votes = [kinds[kind].votes for kind in samples.kinds.tolist()]
    counts = list(map(len, votes))
    right = samples.fact(lambda one: one.correct) > 0
    return VoteShares(
        np.repeat(samples.units, counts),
        np.array([share for each in votes for share in each]),
        np.repeat(right, counts),
    )


def vote_bins(records: Samples | Iterable[Record]) -> tuple[VoteBin, ...]:
    """The bins with drafts; () unless drafts have several samples."""
    return binned(vote_shares(records))


def binned(shares: VoteShares) -> tuple[VoteBin, ...]:
    """The bins that are not empty."""
    bins = shares.bins
    return tuple(_bin(shares, bins == number) for number in np.unique(bins))


def _bin(shares: VoteShares, chosen: np.ndarray) -> VoteBin:
    different, numbers = in_order(shares.units[chosen])
    right = shares.right[chosen]
    sums = np.bincount(numbers, weights=right, minlength=len(different))
    low, high = pooled(sums.data, np.bincount(numbers, minlength=len(different)).data)
    n = len(right)
    return VoteBin(
        share=sum(shares.shares[chosen].data) / n,
        right=int(right.sum()) / n,
        low=low,
        high=high,
        n=n,
    )


def calibration_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """`calibration_error`, the mean distance of share and right over drafts by bins (the expected
    calibration error of Guo et al. 2017), with `_low` and `_high`; {} without several samples.

    The interval is the bootstrap's over problems, moved so that it is about the estimate: as every
    bin's distance is positive, resampling makes it larger.
    """
    samples = Samples.of(records)
    shares = vote_shares(samples)
    if not len(shares.units):
        return {}
    numbers, places = np.unique(shares.units, return_inverse=True)
    names = [samples.unit_name(number) for number in numbers.tolist()]
    ranks = np.empty(len(names), int)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    places = ranks[places]  # problems are in the order of their names
    # (problems, bins): the sums of right - share
    gaps = np.zeros((len(names), BINS))
    np.add.at(gaps, (places, shares.bins), shares.right - shares.shares)
    counts = np.bincount(places, minlength=len(names)).astype(float)
    error = float(np.abs(gaps.sum(axis=0)).sum() / counts.sum())
    low, high = error_interval(gaps, counts)
    return {
        "calibration_error": error,
        "calibration_error_low": low,
        "calibration_error_high": high,
    }


def error_interval(gaps: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """95 % interval of a calibration error, given each problem's sums of right - share by bins
    (problems, bins), and how many drafts it has (problems,).
    """
    error = float(np.abs(gaps.sum(axis=0)).sum() / counts.sum())
    errors = np.concatenate(
        [np.abs(draws @ gaps).sum(axis=1) / (draws @ counts) for draws in resamples(len(gaps))]
    )
    below, above = np.percentile(errors, [2.5, 97.5]) - errors.mean()
    return max(error + float(below), 0.0), min(error + float(above), 1.0)


def resamples(n: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of n units is drawn in each of `RESAMPLES` draws of n, some draws at a time:
    (draws, n).
    """
    draw, chances = np.random.default_rng(seed), np.full(n, 1 / n)
    size = max(LARGEST // n, 1)
    for done in range(0, RESAMPLES, size):
        yield draw.multinomial(n, chances, min(size, RESAMPLES - done))
