"""Figures about records: the same, under the same names, for a step of training and for an evaluation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.answers import UNDECIDED
from slm_math.rollout.programs import programs


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of records (`rollout.record`): shares of samples, except that
    `undecided` (by the grader) and `errors` (broken workflows) are counts; lengths in sampled tokens per reply; means
    per sample.

    `truncated` and `empty`: a reply of the sample was cut off, or had no token. `length_terminated*` leaves replies
    that were cut off out. `pass@k`: see `pass_at_k`, for k = 2, 4, ... up to the samples that every problem has.
    """
    turns = [event for row in rows for event in row["events"] if event["kind"] == "turn"]
    lengths = [turn["tokens"] for turn in turns]
    ended = [turn["tokens"] for turn in turns if turn["finish"] == "stop"]
    n = max(len(rows), 1)
    values = {
        "accuracy": sum(row["correct"] for row in rows) / n,
        "no_answer": sum(row["answer"] is None for row in rows) / n,
        "truncated": sum(any(e.get("finish") == "length" for e in row["events"]) for row in rows) / n,
        "empty": sum(any(e.get("tokens") == 0 for e in row["events"]) for row in rows) / n,
        "undecided": sum(row["reason"] in UNDECIDED for row in rows),
        "errors": sum(row["error"] is not None for row in rows),
        "turns": len(turns) / n,
        "tokens": sum(lengths) / n,
    }
    for name, some in (("length", lengths), ("length_terminated", ended)):
        if some:
            values |= {name: sum(some) / len(some), f"{name}_min": min(some), f"{name}_max": max(some)}
    runs = (event for row in rows for event in row["events"] if event["kind"] == "run")
    return values | passes(rows) | programs(runs).values()


def passes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`pass@2`, `pass@4`, ...: the mean over problems, for every k that all problems have samples for."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        right[row["id"]].append(row["correct"])
    least = min(map(len, right.values()), default=0)
    sizes = [1 << power for power in range(1, least.bit_length()) if 1 << power <= least]
    return {f"pass@{k}": sum(pass_at_k(len(r), sum(r), k) for r in right.values()) / len(right) for k in sizes}


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that of k out of n samples, `right` of which are right, at least one is: 1 - C(n - c, k) / C(n, k).

    Unbiased. Source: Chen et al. 2021, "Evaluating large language models trained on code", eq. 1.
    """
    return 1 - math.comb(n - right, k) / math.comb(n, k)
