"""Several samples of a problem: pass@k and majority@k, with intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np

from slm_math.answers import classes
from slm_math.metrics.arrays import in_order
from slm_math.metrics.columns import Samples
from slm_math.metrics.intervals import clustered, pooled
from slm_math.metrics.records import pass_at_k
from slm_math.records.record import Record
from slm_math.types import AnswerType

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
    return _maj_at_k(tuple(labels), tuple(correct), k, seed)


@lru_cache(maxsize=1 << 10)  # of few samples there are few patterns
def _maj_at_k(
    labels: tuple[int | None, ...], correct: tuple[bool, ...], k: int, seed: int
) -> float:
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


def interval_of_means(values: np.ndarray, units: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values between 0 and 1 (P,), of which those of one of the P
    `units` are no independent observations; see `clustered` and `pooled`.
    """
    different, numbers = in_order(units)
    if len(different) == len(values):
        distinct, counts = np.unique(values, return_counts=True)
        return clustered(distinct.tolist(), counts.tolist())
    sums = np.bincount(numbers, weights=values, minlength=len(different))
    return pooled(sums.tolist(), np.bincount(numbers, minlength=len(different)).tolist())


def sample_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """`pass@k` and `maj@k` of records, with `_low` and `_high`; {} for one sample per problem. Of
    drafts to judge, each has its samples, and the problems that they solve are the units.

    For k = 2, 4, ... up to the fewest samples that a problem has, and for that number.
    """
    samples = Samples.of(records)
    order, starts = samples.groups()
    fewest = int(np.diff(starts).min()) if len(order) else 0
    if fewest < 2:
        return {}
    powers = {1 << power for power in range(1, fewest.bit_length()) if 1 << power <= fewest}
    sizes = sorted(powers | {fewest})
    names = [f"{kind}@{k}" for kind in ("pass", "maj") for k in sizes]
    table = np.empty((len(starts) - 1, len(names)))
    for row, start, end in zip(table, starts, starts[1:]):
        row[:] = _problem_metrics(samples, order[start:end], sizes)
    means = np.mean(table, axis=0).tolist()
    metrics: dict[str, float] = {}
    units = samples.units[order[starts[:-1]]]
    for name, mean, values in zip(names, means, table.T):
        low, high = interval_of_means(values, units)
        metrics |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return metrics


def _problem_metrics(samples: Samples, places: np.ndarray, sizes: Sequence[int]) -> list[float]:
    kinds = samples.tables.kinds.values
    correct = [kinds[kind].correct for kind in samples.kinds[places].tolist()]
    labels = answer_classes(samples, places)
    passed = [pass_at_k(len(places), sum(correct), k) for k in sizes]
    return passed + [maj_at_k(labels, correct, k) for k in sizes]


def answer_classes(samples: Samples, places: np.ndarray) -> list[int | None]:
    """The class of equal answers that each of some samples of one problem belongs to; None for no
    answer.
    """
    problem, rows = int(samples.problems[places[0]]), samples.rows[places].tolist()
    known = samples.tables.labels.get(problem, rows)
    if known is not None:
        return known
    first = samples.tables.kinds.values[samples.kinds[places[0]]]
    choices = samples.record(places[0]).choices if first.has_choices else ()
    answers = [samples.answer(place) for place in places.tolist()]
    answered = [i for i, answer in enumerate(answers) if answer is not None]
    labels: list[int | None] = [None] * len(places)
    texts = [answers[i] or "" for i in answered]
    kind = cast(AnswerType, first.answer_type)
    for label, members in enumerate(classes(texts, kind, choices)):
        for member in members:
            labels[answered[member]] = label
    samples.tables.labels.set(problem, rows, labels)
    return labels
