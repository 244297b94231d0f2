"""Figures about records: the same, under the same names, for a step of training and for an
evaluation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slm_math.answers import UNDECIDED
from slm_math.metrics.programs import programs
from slm_math.metrics.rounds import agent_figures, sample_marks


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of records (`rollout.record`): shares of samples, except that `undecided` (by the grader) and
    `errors` (broken workflows) are counts; lengths in sampled tokens per reply; means per sample.

    `truncated` and `empty`: a reply of the sample was cut off, or had no token.
    `length_terminated*` leaves replies that were cut off out. `strict`: right, and stated in a box
    or a tag; `lenient`: right, also when the last number of a reply that states nothing is
    accepted; `boxed`: stated in a box or a tag; `hedged`: not right, and alternatives named.
    `pass@k`: see `pass_at_k`, for k = 2, 4, ... up to the samples that every problem has. And
    `agent_figures`.
    """
    turns = [event for row in rows for event in row["events"] if event["kind"] == "turn"]
    lengths = [turn["tokens"] for turn in turns]
    ended = [turn["tokens"] for turn in turns if turn["finish"] == "stop"]
    n = max(len(rows), 1)
    values = {
        "accuracy": sum(row["correct"] for row in rows) / n,
        **{name: sum(mark for _, mark in given) / n for name, given in sample_marks(rows).items()},
        "empty": sum(any(e.get("tokens") == 0 for e in row["events"]) for row in rows) / n,
        "undecided": sum(row["reason"] in UNDECIDED for row in rows),
        "errors": sum(row["error"] is not None for row in rows),
        "turns": len(turns) / n,
        "tokens": sum(lengths) / n,
    }
    for name, some in (("length", lengths), ("length_terminated", ended)):
        if some:
            values |= {
                name: sum(some) / len(some),
                f"{name}_min": min(some),
                f"{name}_max": max(some),
            }
    runs = (event for row in rows for event in row["events"] if event["kind"] == "run")
    return values | passes(rows) | programs(runs).values() | agent_figures(rows)


def passes(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """`pass@2`, `pass@4`, ...: the mean over problems, for every k that all problems have samples
    for.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        right[row["id"]].append(row["correct"])
    least = min(map(len, right.values()), default=0)
    sizes = [1 << power for power in range(1, least.bit_length()) if 1 << power <= least]
    return {
        f"pass@{k}": sum(pass_at_k(len(r), sum(r), k) for r in right.values()) / len(right)
        for k in sizes
    }


def pass_at_k(n: int, right: int, k: int) -> float:
    """The chance that of k out of n samples, `right` of which are right, at least one is: 1 - C(n -
    c, k) / C(n, k).

    Unbiased. Source: Chen et al. 2021, "Evaluating large language models trained on code", eq. 1.
    """
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def reward_figures(
    groups: Sequence[Sequence[Mapping[str, Any]]], roles: Sequence[str]
) -> dict[str, float]:
    """Of records with `rewards` and `parts` by role, the samples of a problem in a group: mean and
    standard deviation.

    Rewards of several roles are named after their role. `unscored` is the share of samples without
    a reward, `frac_reward_zero_std` that of groups whose rewards are all equal: nothing can be
    learnt from them. Where a role is rewarded for right answers (part `correct`), `/all_right` and
    `/all_wrong` say how many of these are so.
    """
    rows = [row for group in groups for row in group]
    values: dict[str, float] = {}
    for role in roles:
        prefix = f"{role}/" if len(roles) > 1 else ""
        parts = list(rows[0]["parts"][role]) if rows else []
        columns = {"reward": [row["rewards"][role] for row in rows]}
        columns |= {f"reward/{part}": [row["parts"][role][part] for row in rows] for part in parts}
        for name, column in columns.items():
            scored = [value for value in column if not _missing(value)]
            if scored:
                mean = math.fsum(scored) / len(scored)
                squares = math.fsum((value - mean) ** 2 for value in scored)
                values[prefix + name] = mean
                values[prefix + name.replace("reward", "reward_std", 1)] = math.sqrt(
                    squares / max(len(scored) - 1, 1)
                )
        values[f"{prefix}unscored"] = sum(map(_missing, columns["reward"])) / max(len(rows), 1)
        dead = [
            [row["correct"] for row in group] for group in groups if len(distinct(group, role)) < 2
        ]
        name = f"{prefix}frac_reward_zero_std"
        values[name] = len(dead) / max(len(groups), 1)
        if "correct" in parts:
            values[f"{name}/all_right"] = sum(map(all, dead)) / max(len(groups), 1)
            values[f"{name}/all_wrong"] = sum(not any(marks) for marks in dead) / max(
                len(groups), 1
            )
    return values


def distinct(rows: Iterable[Mapping[str, Any]], role: str) -> set[float]:
    """The different rewards that a role was given."""
    return {row["rewards"][role] for row in rows if not _missing(row["rewards"][role])}


def _missing(reward: float | None) -> bool:
    """NaN, which a record on disk has as null."""
    return reward is None or math.isnan(reward)
