"""Metrics of records: the same names in training and in evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from slm_math.metrics.arrays import counted, in_order, occurrences
from slm_math.metrics.columns import MISSING, Samples
from slm_math.metrics.observed import means
from slm_math.metrics.programs import Programs, count_programs
from slm_math.metrics.rounds import agent_metrics, answer_observations
from slm_math.records.record import Record


def record_metrics(records: Samples | Iterable[Record]) -> dict[str, float]:
    """All metrics that need no rewards, by name.

    They are shares of samples, except that `undecided` (by the grader), `errors` (broken workflows)
    and `skipped` (problems that do not fit into the model's context) are counts, `length*` are
    sampled tokens per reply, and `turns` and `tokens` are means per sample.

    `truncated` and `empty`: a reply of the sample hit the token limit, or had no token.
    `length_terminated*` leaves truncated replies out; `length/<role>` is the mean of one of several
    roles. `strict`: correct, and stated in a box or a
    tag; `lenient`: correct, also when the last number of a reply that states no answer is accepted;
    `boxed`: stated in a box or a tag; `hedged`: incorrect, and the reply names alternatives.
    `pass@k`: see `pass_at_k`, for k = 2, 4, ... up to the samples that every problem has. The rest
    is `agent_metrics`.
    """
    samples = Samples.of(records)
    n = max(len(samples), 1)
    tokens = samples.turns.columns[1]
    shares = answer_observations(samples)
    metrics = {
        "accuracy": samples.total(lambda one: one.correct) / n,
        **dict.fromkeys(shares, 0.0),
        **means(shares),
        "empty": samples.total(lambda one: one.empty) / n,
        "undecided": samples.total(lambda one: one.undecided),
        "errors": samples.total(lambda one: one.broken),
        "skipped": samples.total(lambda one: one.skipped),
        "turns": len(tokens) / n,
        "tokens": float(tokens.sum()) / n,
    }
    programs = program_counts(samples).metrics()
    return (
        metrics
        | _length_metrics(samples)
        | mean_pass_at_k(samples)
        | programs
        | agent_metrics(samples)
    )


def _length_metrics(samples: Samples) -> dict[str, float]:
    roles, tokens = samples.turns.columns
    metrics: dict[str, float] = {}
    for name, some in (("length", tokens), ("length_terminated", tokens[roles % 2 == 1])):
        if len(some):
            metrics |= {
                name: float(some.sum()) / len(some),
                f"{name}_min": float(some.min()),
                f"{name}_max": float(some.max()),
            }
    numbers, counts = counted(roles // 2)
    if len(numbers) > 1:
        for number, count in zip(numbers, counts):
            own = float(tokens[roles // 2 == number].sum())
            metrics[f"length/{samples.tables.roles.values[number]}"] = own / count
    return metrics


def program_counts(samples: Samples) -> Programs:
    """How the programs of samples ended."""
    numbers, seconds = samples.runs.columns
    values = samples.tables.programs.values
    ends = {values[number]: count for number, count in zip(*counted(numbers))}
    return count_programs(ends, sum(seconds.data))


def mean_pass_at_k(samples: Samples) -> dict[str, float]:
    """`pass@2`, `pass@4`, ...: the mean over problems, for every k that all problems have samples
    for.
    """
    sizes, right = correct_by_problem(samples)
    fewest = int(sizes.min()) if len(sizes) else 0
    pairs = list(zip(sizes.tolist(), right.tolist())) if fewest > 1 else []
    return {
        f"pass@{k}": sum(pass_at_k(n, correct, k) for n, correct in pairs) / len(sizes)
        for k in (1 << power for power in range(1, fewest.bit_length()) if 1 << power <= fewest)
    }


def correct_by_problem(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of samples and of correct ones of each problem, in the order in which problems
    first occur.
    """
    different, numbers = in_order(samples.problems)
    right = samples.sums(lambda one: one.correct, numbers, len(different))
    return occurrences(numbers, len(different)), right.astype(np.int32)


@lru_cache(maxsize=1 << 12)
def pass_at_k(n: int, correct: int, k: int) -> float:
    """The probability that of k out of n samples, `correct` of which are correct, at least one is:
    1 - C(n - c, k) / C(n, k).

    Unbiased. Source: Chen et al. 2021, "Evaluating large language models trained on code", eq. 1.
    """
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def reward_metrics(groups: Sequence[Sequence[Record]], roles: Sequence[str]) -> dict[str, float]:
    """Mean and standard deviation of rewards and reward parts, given records with rewards in groups
    (the samples of one problem).

    With several roles, every name starts with the role. `unscored` is the share of samples without
    a reward, `frac_reward_zero_std` that of groups whose rewards are all equal: they give no
    gradient. Where a role is rewarded for correct answers (part `correct`), `/all_right` and
    `/all_wrong` split these groups by whether all answers are correct, or none.
    """
    records = [record for group in groups for record in group]
    numbers = np.repeat(np.arange(len(groups)), list(map(len, groups)))
    correct = np.array([record.correct for record in records], dtype=bool)
    columns: dict[tuple[str, str], np.ndarray] = {}
    for role in roles if records else ():
        columns[role, ""] = np.array([record.rewards[role] for record in records])
        for part in records[0].parts[role]:
            columns[role, part] = np.array([record.parts[role][part] for record in records])
    return _reward_metrics(columns, roles, correct, numbers)


def evaluation_rewards(samples: Samples) -> dict[str, float]:
    """`reward_metrics` of the samples that have rewards; a group is the samples of a problem."""
    first = next(iter(samples.rewards.values()), np.zeros(0))
    if not (first != MISSING).any():
        return {}
    rewarded = samples.where(first != MISSING)
    roles = list(dict.fromkeys(role for role, _ in rewarded.rewards))
    correct = rewarded.fact(lambda one: one.correct) > 0
    return _reward_metrics(rewarded.rewards, roles, correct, in_order(rewarded.problems)[1])


def _reward_metrics(
    columns: Mapping[tuple[str, str], np.ndarray],
    roles: Sequence[str],
    correct: np.ndarray,
    groups: np.ndarray,
) -> dict[str, float]:
    """`reward_metrics` of columns: by role and part ("" is the whole reward) and sample; `groups`
    has numbers.
    """
    metrics: dict[str, float] = {}
    n = max(int(groups.max(initial=-1)) + 1, 1)
    for role in roles:
        prefix = f"{role}/" if len(roles) > 1 else ""
        own = {part: values for (name, part), values in columns.items() if name == role}
        rewards = own.get("", np.zeros(0))
        if len(rewards) and len(own) == 1:  # only a teacher trains the role
            continue
        for part, values in own.items():
            some = _mean_and_std(f"reward/{part}" if part else "reward", values)
            metrics |= {prefix + key: value for key, value in some.items()}
        metrics[f"{prefix}unscored"] = int(np.isnan(rewards).sum()) / max(len(rewards), 1)
        equal = _groups_of_equal(rewards, groups, n)
        name = f"{prefix}frac_reward_zero_std"
        metrics[name] = int(equal.sum()) / n
        if "correct" in own:
            right = np.bincount(groups, weights=correct, minlength=n)
            all_right = equal & (right == np.bincount(groups, minlength=n))
            metrics[f"{name}/all_right"] = int(all_right.sum()) / n
            metrics[f"{name}/all_wrong"] = int((equal & (right == 0)).sum()) / n
    return metrics


def _groups_of_equal(rewards: np.ndarray, groups: np.ndarray, n: int) -> np.ndarray:
    """Which of n groups have no two different rewards."""
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    scored = ~np.isnan(rewards)
    np.minimum.at(low, groups[scored], rewards[scored])
    np.maximum.at(high, groups[scored], rewards[scored])
    return (low >= high) & (np.bincount(groups, minlength=n) > 0)


def _mean_and_std(name: str, rewards: np.ndarray) -> dict[str, float]:
    """`reward...` and `reward_std...` of the rewards that are scored; {} without any."""
    scored = rewards[~np.isnan(rewards)].data
    if not len(scored):
        return {}
    mean = math.fsum(scored) / len(scored)
    squares = math.fsum((reward - mean) ** 2 for reward in scored)
    std = math.sqrt(squares / max(len(scored) - 1, 1))
    return {name: mean, name.replace("reward", "reward_std", 1): std}


def distinct_rewards(records: Iterable[Record], role: str) -> set[float]:
    """The different rewards of a role, without NaN (not scored)."""
    rewards = (record.rewards[role] for record in records)
    return {reward for reward in rewards if not math.isnan(reward)}
