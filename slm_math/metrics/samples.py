"""Several samples of a problem: pass@k and majority@k, with bootstrap intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from slm_math.answers import classes
from slm_math.metrics.intervals import wilson
from slm_math.metrics.records import pass_at_k
from slm_math.metrics.verdicts import solved_problem
from slm_math.records.record import Record

RESAMPLES = 2000
SUBSETS = 300  # random choices of k samples, for problems with more choices than that


def maj_at_k(labels: Sequence[int | None], correct: Sequence[bool], k: int, seed: int = 0) -> float:
    """The probability that the majority of k samples of a problem is correct; a tie is broken at
    random.

    Args:
        labels: the class of equal answers of each sample; None for a sample without an answer,
            which has no vote.
        correct: whether each sample is correct.
        k: votes; the mean is over all choices of k samples, or over 300 random ones if there are
            more.
        seed: of the random choices.

    Source: self-consistency, Wang et al. 2022; unlike the usual maj@k it does not depend on the
    order of samples.
    """
    classes_voted = sorted({label for label in labels if label is not None})
    if not classes_voted:
        return 0.0
    subsets = _subsets(len(labels), k, seed)
    # (n, classes)
    own = np.array([-1 if label is None else label for label in labels])
    member = (own[:, None] == np.array(classes_voted)).astype(float)
    accuracy = np.array(correct, dtype=float) @ member / member.sum(axis=0)
    counts = member[subsets].sum(axis=1)  # (subsets, classes)
    winners = (counts == counts.max(axis=1, keepdims=True)) & (counts > 0)
    expected = (winners * accuracy).sum(axis=1) / np.maximum(winners.sum(axis=1), 1)
    return float(expected.mean())


@lru_cache(maxsize=64)
def _subsets(n: int, k: int, seed: int) -> np.ndarray:
    """The choices of k of n samples over which `maj_at_k` is a mean: all, or 300 random ones."""
    if math.comb(n, k) <= SUBSETS:
        return np.array(list(itertools.combinations(range(n), k)))
    return np.random.default_rng(seed).random((SUBSETS, n)).argsort(axis=1)[:, :k]


def bootstrap(
    values: Sequence[Sequence[float]], seed: int = 0, units: Sequence[str] | None = None
) -> list[tuple[float, float]]:
    """95 % percentile intervals of means over rows (Efron 1979); `values` is (P, K): K metrics of P
    rows. Units are drawn: rows of the same of the P `units` together, by default each row alone.

    Where all rows agree, resampling would give an interval of width 0; the units then count as one
    sample each (Wilson).
    """
    table = np.asarray(values, dtype=float)
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units or range(len(table))))}
    n = len(places)
    sums, counts = np.zeros((n, table.shape[1])), np.zeros(n)
    for unit, row in zip(units or range(len(table)), table):
        sums[places[unit]] += row
        counts[places[unit]] += 1
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    means = draws @ sums / (draws @ counts)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    percentiles = list(zip(low.tolist(), high.tolist()))
    constant = [len(set(column)) == 1 for column in table.T.tolist()]
    return [
        wilson(mean * n, n) if same else ends
        for same, mean, ends in zip(constant, table.mean(axis=0).tolist(), percentiles)
    ]


def sample_metrics(records: Sequence[Record]) -> dict[str, float]:
    """`pass@k` and `maj@k` of records, with `_low` and `_high`; {} for one sample per problem. Of
    drafts to judge, each has its samples, and the problems that they solve are the units.

    For k = 2, 4, ... up to the fewest samples that a problem has, and for that number.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.id, []).append(record)
    fewest = min(map(len, groups.values()), default=0)
    if fewest < 2:
        return {}
    powers = {1 << power for power in range(1, fewest.bit_length()) if 1 << power <= fewest}
    sizes = sorted(powers | {fewest})
    names = [f"{kind}@{k}" for kind in ("pass", "maj") for k in sizes]
    table = [_problem_metrics(group, sizes) for group in groups.values()]
    means = np.mean(table, axis=0).tolist()
    metrics: dict[str, float] = {}
    units = [solved_problem(group[0]) for group in groups.values()]
    for name, mean, (low, high) in zip(names, means, bootstrap(table, units=units)):
        metrics |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return metrics


def _problem_metrics(group: Sequence[Record], sizes: Sequence[int]) -> list[float]:
    correct = [record.correct for record in group]
    labels = answer_classes(group)
    passed = [pass_at_k(len(group), sum(correct), k) for k in sizes]
    return passed + [maj_at_k(labels, correct, k) for k in sizes]


def answer_classes(group: Sequence[Record]) -> list[int | None]:
    """The class of equal answers that each sample of one problem belongs to; None for no answer."""
    answered = [i for i, record in enumerate(group) if record.answer is not None]
    answers = [group[i].answer or "" for i in answered]
    labels: list[int | None] = [None] * len(group)
    for label, members in enumerate(classes(answers, group[0].answer_type, group[0].choices)):
        for member in members:
            labels[answered[member]] = label
    return labels
