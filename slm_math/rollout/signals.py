"""Signals: the values that an update needs for each loss token, in addition to the rows.

Axes: N rows, M loss tokens of all rows: row by row, in the order of their positions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.advantages import Advantage, advantages, part_advantages
from slm_math.losses.objective import Objective
from slm_math.policy.batches import joined, token_counts
from slm_math.policy.ranks import gather_over_ranks, rank
from slm_math.policy.teacher import TeacherScores
from slm_math.records.record import Record, record
from slm_math.rewards.credits import turn_factors
from slm_math.rollout.groups import Rollout, SampledGroups

# by turn of a trace: weights of its credits, and of its blame
Given: TypeAlias = tuple[Mapping[int, float], Mapping[int, float]]


@dataclass(frozen=True)
class Signals:
    """The training signals of the rows, one value per loss token; all tensors are (M,) float32.

    Args:
        advantages: the advantage of each token.
        weights: what each token weighs in the loss of the step; 0 where it does not count.
        old: the log-probability in nats under the policy that sampled; NaN where that policy is
            the present one, whose first pass computes it.
        reference: the log-probability in nats under the reference; None without a KL term.
        betas: the weight of each token's KL; None where all have the objective's.
        teacher: what a teacher says; None without one.
    """

    advantages: Tensor
    weights: Tensor
    old: Tensor
    reference: Tensor | None = None
    betas: Tensor | None = None
    teacher: TeacherScores | None = None

    def select(self, tokens: Tensor) -> Signals:
        """The signals of some loss tokens, `tokens` (m,) indices into M."""
        return self._each(lambda values: values[tokens])

    def to(self, device: torch.device) -> Signals:
        """The signals on a device."""
        return self._each(lambda values: values.to(device))

    @classmethod
    def joined(cls, parts: Sequence[Signals]) -> Signals:
        """The signals of several lists of rows, one after the other; each has what the first
        has.
        """
        tensors: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name, values in vars(parts[0]).items()
            if isinstance(values, Tensor)
        }
        if parts[0].teacher is None:
            return cls(**tensors)
        ends = np.cumsum([len(part.weights) for part in parts]).tolist()
        places = (torch.arange(end - len(p.weights), end) for end, p in zip(ends, parts))
        teachers = [(place, p.teacher) for place, p in zip(places, parts) if p.teacher is not None]
        return cls(**tensors, teacher=TeacherScores.joined(ends[-1], teachers))

    def _each(self, make: Callable[[Any], Any]) -> Signals:
        return replace(
            self,
            **{name: make(values) for name, values in vars(self).items() if values is not None},
        )


def any_by_row(rows: Sequence[Row], values: Tensor) -> list[bool]:
    """Whether any of the values (M,) of a row's loss tokens is not 0, row by row."""
    row = np.arange(len(rows)).repeat(token_counts(rows).numpy())
    return (np.bincount(row, values.cpu().numpy() != 0, len(rows)) > 0).tolist()


def reward_table(rollouts: Sequence[Rollout], role: str, parts: Sequence[str]) -> Tensor:
    """The reward of each rollout for a role, and its K unweighted parts: (rollouts, 1 + K)
    float64.
    """
    table = [[each.rewards[role], *(each.parts[role][part] for part in parts)] for each in rollouts]
    return torch.tensor(table, dtype=torch.float64).reshape(len(rollouts), 1 + len(parts))


def charge(rewards: Tensor, rows: Sequence[Row], role: str, penalties: Tensor) -> None:
    """Takes the penalties (N,) of a role's rows from the rewards in its `reward_table`."""
    own = [n for n, row in enumerate(rows) if row.role == role]
    rollouts = torch.tensor([rows[n].rollout for n in own], dtype=torch.long)
    rewards[:, 0].index_add_(0, rollouts, -penalties[own].double())


def rollout_advantages(
    rewards: Tensor, weights: Sequence[float], group_size: int, advantage: Advantage
) -> Tensor:
    """The advantages of this rank's rollouts for one role, with statistics over all ranks:
    (rollouts, 1), or (rollouts, K) with `advantage.per_part`, what each part adds.

    Args:
        rewards: (rollouts, 1 + K) float64: the reward, and its K unweighted parts; the rollouts of
            a group stand together.
        weights: (K,) of the parts.
        group_size: rollouts of a group (G).
        advantage: baseline and scale.
    """
    ranks = gather_over_ranks(rewards)
    table = torch.cat(ranks).view(-1, group_size, rewards.shape[1])
    if advantage.per_part:
        own = torch.tensor(weights, dtype=torch.float64)
        values = part_advantages(table[..., 1:].movedim(-1, 0), own, advantage)
    else:
        values = advantages(table[..., 0], advantage)[None]
    start = sum(map(len, ranks[: rank()]))
    return values.flatten(1).T[start : start + len(rewards)]


def given_credits(
    rollouts: Sequence[Rollout], parts: Mapping[str, Sequence[str]] | None
) -> list[dict[str, list[Given]]]:
    """Per rollout, role -> the credits and the blame of each column of `rollout_advantages`: with
    `parts` (role -> the names of its rewards) those of each part, else those of all rewards
    together.
    """
    if parts is None:
        return [
            {
                role: [(each.credits.get(role, {}), each.blame.get(role, {}))]
                for role in {*each.credits, *each.blame}
            }
            for each in rollouts
        ]
    return [
        {
            role: [
                (
                    each.part_credits.get(role, {}).get(name, {}),
                    each.part_blame.get(role, {}).get(name, {}),
                )
                for name in names
            ]
            for role, names in parts.items()
        }
        for each in rollouts
    ]


def token_advantages(
    rows: Sequence[Row],
    by_role: Mapping[str, Tensor],
    credits: Sequence[Mapping[str, Sequence[Given]]] = (),
) -> Tensor:
    """Advantages of rollouts to those of their loss tokens, (M,) float32.

    Without credits, all tokens of a rollout have its advantage, the sum of its K columns. Credits
    distribute each column over the turns, and change no sum over the loss tokens of a role in a
    rollout (see `turn_factors`).

    Args:
        by_role: role -> the advantages (rollouts, K), see `rollout_advantages`; those of a role
            that is not named are 0.
        credits: (rollouts,) role -> for each column, turn of the trace -> its weight, where rewards
            gave credits, for a value that is not negative and for one that is (blame); see
            `given_credits`.
    """
    if not any(credits):
        sums = {role: values.sum(1) for role, values in by_role.items()}
        by_row = [sums[row.role][row.rollout] if row.role in sums else 0.0 for row in rows]
        return torch.tensor(by_row, dtype=torch.float32).repeat_interleave(token_counts(rows))
    columns = {role: values.tolist() for role, values in by_role.items()}
    turns: dict[tuple[int, str], Counter[int]] = {}
    for row in rows:
        counts = turns.setdefault((row.rollout, row.role), Counter())
        counts.update(
            dict(zip(*(a.tolist() for a in np.unique(row.loss_turns, return_counts=True))))
        )
    by_turn = {}
    for (rollout, role), counts in turns.items():
        values = columns[role][rollout] if role in columns else []
        given = credits[rollout].get(role) or [({}, {})] * len(values)
        factors = [
            turn_factors(blame if value < 0 else earned, counts)
            for value, (earned, blame) in zip(values, given)
        ]
        by_turn[rollout, role] = {
            turn: math.fsum(value * factor[turn] for value, factor in zip(values, factors))
            for turn in counts
        }
    return joined([_by_turn(row, by_turn[row.rollout, row.role]) for row in rows])


def _by_turn(row: Row, values: Mapping[int, float]) -> NDArray[np.float64]:
    """What the loss tokens of a row have by their turns."""
    turns, place = np.unique(row.loss_turns, return_inverse=True)
    return np.array([values[turn] for turn in turns.tolist()])[place]


def old_logprobs(rows: Sequence[Row], version: int, proximal: bool = False) -> Tensor:
    """Log-probabilities (M,) float32 under the policy that sampled, where it is not the policy of
    this version; NaN elsewhere.

    `proximal`: NaN everywhere. Ratios are then to the policy before the update, whatever sampled,
    and `Objective.mismatch` weighs tokens by the ratio of that policy to the one that sampled (Fu
    et al. 2025, AReaL, the decoupled objective). Raises ValueError for a row of another version
    without log-probabilities.
    """
    values = []
    for row in rows:
        own = row.loss_logprobs
        if row.version == version:
            own = np.full_like(own, np.nan)
        elif np.isnan(own).any():
            raise ValueError(
                f"version {row.version} of the weights sampled a row of role {row.role!r}, the "
                f"present version is {version}, and the engine gave no log-probabilities: such "
                "rows cannot be trained on"
            )
        values.append(np.full_like(own, np.nan) if proximal else own)
    return joined(values)


def ages(rows: Sequence[Row], version: int, passes: int) -> dict[str, float]:
    """Sums for `train/staleness`, the steps between sampling and training."""
    return {
        "age": sum(version - row.version for row in rows) / passes,
        "aged_rows": float(len(rows)),
    }


def token_betas(
    rows: Sequence[Row], rollouts: Sequence[Rollout], objective: Objective
) -> Tensor | None:
    """The weight of each loss token's KL, (M,) float32: `first_turn_beta` in the first turn of a
    role in its rollout, `beta` in its others; None where all have `beta`.

    A first turn that nothing was sampled in (an empty reply, a greedy one) is still the first.
    """
    if objective.first_turn_beta is None:
        return None
    first = [
        {turn.request.role: n for n, turn in reversed([*enumerate(rollout.trace.turns)])}
        for rollout in rollouts
    ]
    return joined(
        [
            np.where(
                row.loss_turns == first[row.rollout][row.role],
                objective.first_turn_beta,
                objective.beta,
            )
            for row in rows
        ]
    )


def untaught(rows: Sequence[Row], teacher: Tensor, roles: Collection[str]) -> dict[str, float]:
    """How many rows there are of roles with a teacher, and how many of them it did not score; see
    `without_signal`.
    """
    scored = any_by_row(rows, ~teacher.isnan())
    own = [scored[n] for n, row in enumerate(rows) if row.role in roles]
    return {"teacher_rows": float(len(own)), "untaught_rows": float(own.count(False))}


def training_records(sampled: SampledGroups, advantages: Mapping[str, Tensor]) -> list[Record]:
    """The records of all rollouts of a step with their rewards, and with advantages for those that
    were trained on.
    """
    by_role = {role: values.sum(1).tolist() for role, values in advantages.items()}
    trained = [rollout for group in sampled.groups for rollout in group]
    place = {id(rollout): n for n, rollout in enumerate(trained)}
    records = []
    for rollout in sampled.rollouts:
        n = place.get(id(rollout))
        own = {} if n is None else {role: values[n] for role, values in by_role.items()}
        made = record(rollout)
        records.append(made.with_training(rollout.parts, rollout.rewards, own, rollout.errors))
    return records
