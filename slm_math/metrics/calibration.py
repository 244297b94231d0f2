"""Whether the share of a verifier's verdicts that say CORRECT is the share of right drafts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slm_math.answers.verdicts import DECISIONS
from slm_math.metrics.intervals import pooled
from slm_math.metrics.samples import RESAMPLES
from slm_math.metrics.verdicts import solved_problem
from slm_math.records.record import Record

BINS = 5  # of vote shares
RIGHT = DECISIONS[0]


@dataclass(frozen=True)
class VoteBin:
    """`n` drafts of which a similar share of the verdicts says CORRECT (`share`, their mean), and
    the share of them that is `right`, with its 95 % interval (problems are the units).
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


def vote_shares(records: Sequence[Record]) -> list[tuple[str, float, bool]]:
    """(problem, share of the verdicts that say CORRECT, whether the draft is right) of every draft
    with several samples; those without a verdict are left out.
    """
    drafts: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.answer_type == "verdict":
            drafts[record.id].append(record)
    shares = []
    for samples in drafts.values():
        votes = [record.answer == RIGHT for record in samples if record.answer is not None]
        if len(samples) > 1 and votes:
            share = sum(votes) / len(votes)
            shares.append((solved_problem(samples[0]), share, samples[0].gold == RIGHT))
    return shares


def vote_bins(records: Sequence[Record]) -> tuple[VoteBin, ...]:
    """The bins with drafts; () unless drafts have several samples."""
    bins: dict[int, list[tuple[str, float, bool]]] = defaultdict(list)
    for observation in vote_shares(records):
        bins[bin_of(observation[1])].append(observation)
    return tuple(_bin(some) for _, some in sorted(bins.items()))


def _bin(some: Sequence[tuple[str, float, bool]]) -> VoteBin:
    problems: dict[str, list[float]] = defaultdict(list)
    for problem, _, right in some:
        problems[problem].append(float(right))
    n = len(some)
    low, high = pooled(list(problems.values()))
    return VoteBin(
        share=sum(share for _, share, _ in some) / n,
        right=sum(right for _, _, right in some) / n,
        low=low,
        high=high,
        n=n,
    )


def calibration_metrics(records: Sequence[Record]) -> dict[str, float]:
    """`calibration_error`, the mean distance of share and right over drafts by bins (the expected
    calibration error of Guo et al. 2017), with `_low` and `_high`; {} without several samples.

    The interval is the bootstrap's over problems, moved so that it is about the estimate: as every
    bin's distance is positive, resampling makes it larger.
    """
    shares = vote_shares(records)
    if not shares:
        return {}
    problems = sorted({problem for problem, _, _ in shares})
    places = {problem: place for place, problem in enumerate(problems)}
    # (problems, bins): the sums of right - share
    gaps = np.zeros((len(problems), BINS))
    counts = np.zeros(len(problems))
    for problem, share, right in shares:
        gaps[places[problem], bin_of(share)] += right - share
        counts[places[problem]] += 1
    error = float(np.abs(gaps.sum(axis=0)).sum() / counts.sum())
    draws = np.random.default_rng(0).multinomial(
        len(problems), np.full(len(problems), 1 / len(problems)), RESAMPLES
    )
    errors = np.abs(draws @ gaps).sum(axis=1) / (draws @ counts)
    below, above = np.percentile(errors, [2.5, 97.5]) - errors.mean()
    return {
        "calibration_error": error,
        "calibration_error_low": max(error + float(below), 0.0),
        "calibration_error_high": min(error + float(above), 1.0),
    }
