"""Metrics of records: the same names in training and in evaluations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from slm_math.answers import UNDECIDED
from slm_math.metrics.programs import count_programs
from slm_math.metrics.rounds import agent_metrics, answer_observations, means
from slm_math.records.record import Record


def record_metrics(records: Sequence[Record]) -> dict[str, float]:
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
    turns = [turn for record in records for turn in record.turns]
    lengths = [turn.tokens for turn in turns]
    terminated = [turn.tokens for turn in turns if turn.finish == "stop"]
    n = max(len(records), 1)
    shares = dict.fromkeys(answer_observations(()), 0.0) | means(answer_observations(records))
    metrics = {
        "accuracy": sum(record.correct for record in records) / n,
        **shares,
        "empty": sum(any(turn.tokens == 0 for turn in record.turns) for record in records) / n,
        "undecided": sum(record.reason in UNDECIDED for record in records),
        "errors": sum(record.broken for record in records),
        "skipped": sum(record.skipped for record in records),
        "turns": len(turns) / n,
        "tokens": sum(lengths) / n,
    }
    for name, tokens in (("length", lengths), ("length_terminated", terminated)):
        if tokens:
            metrics |= {
                name: sum(tokens) / len(tokens),
                f"{name}_min": min(tokens),
                f"{name}_max": max(tokens),
            }
    by_role: dict[str, list[int]] = defaultdict(list)
    for turn in turns:
        by_role[turn.role].append(turn.tokens)
    if len(by_role) > 1:
        metrics |= {f"length/{role}": sum(own) / len(own) for role, own in by_role.items()}
    programs = count_programs([run for record in records for run in record.runs])
    return metrics | mean_pass_at_k(records) | programs.metrics() | agent_metrics(records)


def mean_pass_at_k(records: Sequence[Record]) -> dict[str, float]:
    """`pass@2`, `pass@4`, ...: the mean over problems, for every k that all problems have samples
    for.
    """
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for record in records:
        verdicts[record.id].append(record.correct)
    fewest = min(map(len, verdicts.values()), default=0)
    sizes = [1 << power for power in range(1, fewest.bit_length()) if 1 << power <= fewest]
    return {
        f"pass@{k}": sum(pass_at_k(len(some), sum(some), k) for some in verdicts.values())
        / len(verdicts)
        for k in sizes
    }


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
    metrics: dict[str, float] = {}
    for role in roles:
        prefix = f"{role}/" if len(roles) > 1 else ""
        parts = list(records[0].parts[role]) if records else []
        if records and not parts:  # only a teacher trains the role
            continue
        columns = {"reward": [record.rewards[role] for record in records]}
        columns |= {
            f"reward/{part}": [record.parts[role][part] for record in records] for part in parts
        }
        for name, column in columns.items():
            metrics |= {prefix + key: value for key, value in _mean_and_std(name, column).items()}
        unscored = sum(map(math.isnan, columns["reward"]))
        metrics[f"{prefix}unscored"] = unscored / max(len(records), 1)
        equal = [group for group in groups if len(distinct_rewards(group, role)) < 2]
        name, n = f"{prefix}frac_reward_zero_std", max(len(groups), 1)
        metrics[name] = len(equal) / n
        if "correct" in parts:
            verdicts = [[record.correct for record in group] for group in equal]
            metrics[f"{name}/all_right"] = sum(map(all, verdicts)) / n
            metrics[f"{name}/all_wrong"] = sum(not any(some) for some in verdicts) / n
    return metrics


def _mean_and_std(name: str, rewards: Sequence[float]) -> dict[str, float]:
    """`reward...` and `reward_std...` of the rewards that are scored; {} without any."""
    scored = [reward for reward in rewards if not math.isnan(reward)]
    if not scored:
        return {}
    mean = math.fsum(scored) / len(scored)
    squares = math.fsum((reward - mean) ** 2 for reward in scored)
    std = math.sqrt(squares / max(len(scored) - 1, 1))
    return {name: mean, name.replace("reward", "reward_std", 1): std}


def distinct_rewards(records: Iterable[Record], role: str) -> set[float]:
    """The different rewards of a role, without NaN (not scored)."""
    rewards = (record.rewards[role] for record in records)
    return {reward for reward in rewards if not math.isnan(reward)}
