"""Several samples of a problem: pass@k, majority@k, and how far chance could have moved them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slm_math.answers import classes
from slm_math.metrics.intervals import wilson
from slm_math.metrics.records import pass_at_k

RESAMPLES = 2000
SUBSETS = 300  # of a problem's samples, where there are more


def maj_at_k(labels: Sequence[int | None], right: Sequence[bool], k: int, seed: int = 0) -> float:
    """The chance that the majority of k of a problem's samples is right, a tie being settled by
    lot.

    Args:
        labels: the class of equal answers of each sample; None for one without an answer, which has
            no vote.
        right: whether each sample is right.
        k: votes; the mean is taken over all choices of k samples, or over 300 random ones where
            there are more.
        seed: of these.

    Source: self-consistency, Wang et al. 2022; unlike the usual maj@k it does not depend on the
    order of samples.
    """
    n = len(labels)
    if math.comb(n, k) <= SUBSETS:
        chosen = np.array(list(itertools.combinations(range(n), k)))
    else:
        chosen = np.random.default_rng(seed).random((SUBSETS, n)).argsort(axis=1)[:, :k]
    names = sorted({label for label in labels if label is not None})
    if not names:
        return 0.0
    # (n, classes)
    member = np.array([[label == name for name in names] for label in labels], dtype=float)
    worth = np.array(
        [np.mean([r for r, label in zip(right, labels) if label == name]) for name in names]
    )
    counts = member[chosen].sum(axis=1)  # (subsets, classes)
    most = (counts == counts.max(axis=1, keepdims=True)) & (counts > 0)
    return float(((most * worth).sum(axis=1) / np.maximum(most.sum(axis=1), 1)).mean())


def bootstrap(values: Sequence[Sequence[float]], seed: int = 0) -> list[tuple[float, float]]:
    """95 % percentile intervals of means over problems (Efron 1979); `values` is (P, K): K figures
    of P problems.

    Where all problems agree, which resampling takes for certainty, they count as one sample each
    (Wilson).
    """
    table = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).multinomial(
        len(table), np.full(len(table), 1 / len(table)), RESAMPLES
    )
    means = draws @ table / len(table)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    found = list(zip(low.tolist(), high.tolist()))
    same = [len(set(column)) == 1 for column in table.T.tolist()]
    return [
        wilson(m * len(table), len(table)) if s else i
        for s, m, i in zip(same, table.mean(axis=0).tolist(), found)
    ]


def sampled(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`pass@k` and `maj@k` of records, with `_low` and `_high`; {} for one sample a problem.

    For k = 2, 4, ... up to the least number of samples that a problem has, and for that number.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["id"], []).append(row)
    least = min(map(len, groups.values()), default=0)
    if least < 2:
        return {}
    sizes = sorted(
        {1 << power for power in range(1, least.bit_length()) if 1 << power <= least} | {least}
    )
    names = [f"{kind}@{k}" for kind in ("pass", "maj") for k in sizes]
    table = [_problem(group, sizes) for group in groups.values()]
    means = np.mean(table, axis=0).tolist()
    found: dict[str, float] = {}
    for name, mean, (low, high) in zip(names, means, bootstrap(table)):
        found |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return found


def _problem(group: Sequence[Mapping[str, Any]], sizes: Sequence[int]) -> list[float]:
    right = [row["correct"] for row in group]
    labels = labelled(group)
    passed = [pass_at_k(len(group), sum(right), k) for k in sizes]
    return passed + [maj_at_k(labels, right, k) for k in sizes]


def labelled(group: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """The class of equal answers that each sample of one problem belongs to; None for no answer."""
    answered = [i for i, row in enumerate(group) if row["answer"] is not None]
    rules = group[0].get("answer_type", "math"), tuple(group[0].get("choices", ()))
    labels: list[int | None] = [None] * len(group)
    for label, members in enumerate(classes([group[i]["answer"] for i in answered], *rules)):
        for member in members:
            labels[answered[member]] = label
    return labels
