"""Signals: the values that an update needs for each loss token, in addition to the rows; and the
micro-batches that carry both.

Axes: N rows, M loss tokens of all rows: row by row, in the order of their positions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.advantages import Advantage, advantages, part_advantages
from slm_math.losses.policy import row_weights
from slm_math.policy.batches import Batch, collate, micro_batches, token_counts, token_indices
from slm_math.policy.ranks import gather_over_ranks, rank, sum_over_ranks
from slm_math.records.record import Record, record
from slm_math.rewards.credits import turn_factors
from slm_math.rollout.groups import Rollout, SampledGroups


@dataclass(frozen=True)
class Signals:
    """The training signals of the rows, one value per loss token; all tensors are (M,) float32.

    Args:
        advantages: the advantage of each token.
        weights: what each token weighs in the loss of the step; 0 where it does not count.
        old: the log-probability in nats under the policy that sampled; NaN where that policy is
            the present one, whose first pass computes it.
        reference: the log-probability in nats under the reference; None without a KL term.
    """

    advantages: Tensor
    weights: Tensor
    old: Tensor
    reference: Tensor | None = None

    def select(self, tokens: Tensor) -> Signals:
        """The signals of some loss tokens, `tokens` (m,) indices into M."""
        return Signals(
            advantages=self.advantages[tokens],
            weights=self.weights[tokens],
            old=self.old[tokens],
            reference=None if self.reference is None else self.reference[tokens],
        )


def any_by_row(rows: Sequence[Row], values: Tensor) -> list[bool]:
    """Whether any of the values (M,) of a row's loss tokens is not 0, row by row."""
    return [bool(own.any()) for own in values.cpu().split(token_counts(rows).tolist())]


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
    """The advantages (rollouts,) of this rank's rollouts for one role, with statistics over all
    ranks.

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
        values = advantages(table[..., 0], advantage)
    start = sum(map(len, ranks[: rank()]))
    return values.flatten()[start : start + len(rewards)]


def token_advantages(
    rows: Sequence[Row],
    by_role: Mapping[str, Tensor],
    credits: Sequence[Mapping[str, Mapping[int, float]]] = (),
    blame: Sequence[Mapping[str, Mapping[int, float]]] | None = None,
) -> Tensor:
    """Advantages of rollouts to those of their loss tokens, (M,) float32.

    Without credits, all tokens of a rollout have its advantage. Credits distribute it over the
    turns, and change no sum over the loss tokens of a role in a rollout (see `turn_factors`).

    Args:
        by_role: role -> the advantages (rollouts,).
        credits: (rollouts,) role -> turn of the trace -> its weight, where rewards gave credits.
        blame: the same for negative advantages; None takes the credits there, too.
    """
    by_row = torch.zeros(len(rows))
    for role, values in by_role.items():
        own = [n for n, row in enumerate(rows) if row.role == role]
        by_row[own] = values[[rows[n].rollout for n in own]].float()
    advantages = by_row.repeat_interleave(token_counts(rows))
    blame = credits if blame is None else blame
    if not any(credits) and not any(blame):
        return advantages
    turns: dict[tuple[int, str], Counter[int]] = {}
    for row in rows:
        counts = turns.setdefault((row.rollout, row.role), Counter())
        counts.update(row.turns[t] for t in row.loss_positions)
    factors = {}
    for (rollout, role), counts in turns.items():
        side = blame if by_role[role][rollout] < 0 else credits
        if role in side[rollout]:
            factors[rollout, role] = turn_factors(side[rollout][role], counts)
    by_token = [
        factors.get((row.rollout, row.role), {}).get(row.turns[t], 1.0)
        for row in rows
        for t in row.loss_positions
    ]
    return advantages * torch.tensor(by_token, dtype=torch.float32)


def old_logprobs(rows: Sequence[Row], version: int) -> Tensor:
    """Log-probabilities (M,) float32 under the policy that sampled, where it is not the policy of
    this version; NaN elsewhere.

    Raises ValueError for a row of another version without log-probabilities.
    """
    for row in rows:
        known = bool(row.logprobs) and not any(
            math.isnan(row.logprobs[t]) for t in row.loss_positions
        )
        if row.version != version and not known:
            raise ValueError(
                f"version {row.version} of the weights sampled a row of role {row.role!r}, the "
                f"present version is {version}, and the engine gave no log-probabilities: such "
                "rows cannot be trained on"
            )
    values = [
        row.logprobs[t] if row.version != version else float("nan")
        for row in rows
        for t in row.loss_positions
    ]
    return torch.tensor(values, dtype=torch.float32)


def averaged_groups(
    rows: Sequence[Row], rollouts: Sequence[Rollout], size: int, mask_truncated: bool
) -> list[int | None]:
    """The group of each row, (N,), whose tokens are averaged together: `size` rollouts each; None
    for a row that does not count, since a reply of its role hit the token limit.
    """
    return [
        None
        if mask_truncated and rollouts[row.rollout].hit_length_limit(row.role)
        else row.rollout // size
        for row in rows
    ]


def micro_batch_groups(
    rows: Sequence[Row], groups: Sequence[int | None], tokens: int
) -> list[int | None]:
    """The micro-batch of each row that counts (with a group), (N,), as a group to average over, for
    BNPO; None for the others. `tokens` bounds a micro-batch.
    """
    counted = [n for n, group in enumerate(groups) if group is not None]
    numbers: list[int | None] = [None] * len(rows)
    for number, chunk in enumerate(micro_batches([rows[n] for n in counted], tokens)):
        for place in chunk:
            numbers[counted[place]] = number
    return numbers


def loss_totals(
    rows: Sequence[Row],
    groups: Sequence[int | None],
    reduction: str,
    roles: Sequence[str],
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """By role what the losses of all ranks' rows are divided by: their loss tokens with the
    reduction "token", else their groups. Rows of group None do not count. `device` is where ranks
    exchange numbers.
    """
    totals = {}
    for role in roles:
        own = [n for n, row in enumerate(rows) if row.role == role and groups[n] is not None]
        tokens = sum(len(rows[n].loss_positions) for n in own)
        count = tokens if reduction == "token" else len({groups[n] for n in own})
        totals[role] = float(sum_over_ranks(count, device))
    return totals


def token_weights(
    rows: Sequence[Row],
    groups: Sequence[int | None],
    reduction: str,
    totals: Mapping[str, float],
    budgets: Mapping[str, int],
) -> Tensor:
    """The weight (M,) float32 of each loss token; see `row_weights`. Each role has an average of
    its own.

    Args:
        groups: (N,) the group of each row, whose tokens are averaged together; None for a row that
            does not count: its tokens weigh 0.
        reduction: see `row_weights`.
        totals: role -> `loss_totals`.
        budgets: role -> the longest reply there can be, in tokens.
    """
    counts = token_counts(rows)
    weights = torch.zeros(len(rows), dtype=torch.float64)
    for role, total in totals.items():
        own = [n for n, row in enumerate(rows) if row.role == role and groups[n] is not None]
        index = torch.tensor([groups[n] for n in own], dtype=torch.long)
        weights[own] = row_weights(
            counts[own], reduction, total=total, groups=index, budget=budgets[role]
        )
    masks = [row.mask[t] for row in rows for t in row.loss_positions]
    return torch.tensor(masks, dtype=torch.float32) * weights.float().repeat_interleave(counts)


def update_chunks(
    rows: Sequence[Row],
    advantages: Tensor,
    there: Sequence[bool],
    needs_all_rows: bool,
    tokens: int,
) -> list[list[int]]:
    """The micro-batches of an update as indices into rows.

    Args:
        rows: (N,) all rows of the step.
        advantages: (M,).
        there: (N,) whether a row counts at all.
        needs_all_rows: whether rows whose advantages are all 0 matter beyond their share of the
            averages.
        tokens: positions of a micro-batch, padding included.
    """
    live = any_by_row(rows, advantages)
    needed = [n for n in range(len(rows)) if there[n] and (live[n] or needs_all_rows)]
    chunks = micro_batches([rows[n] for n in needed], tokens)
    return [[needed[place] for place in chunk] for chunk in chunks]


def training_batches(
    rows: Sequence[Row],
    signals: Signals,
    needs_all_rows: bool,
    tokens: int,
    device: torch.device,
) -> list[tuple[Batch, Signals]]:
    """The micro-batches of an update on `device`, each with its signals (see `update_chunks`)."""
    there = any_by_row(rows, signals.weights)
    chunks = update_chunks(
        rows, signals.advantages, there=there, needs_all_rows=needs_all_rows, tokens=tokens
    )
    return [
        (
            collate([rows[n] for n in chunk], device),
            signals.select(token_indices(rows, chunk).to(device)),
        )
        for chunk in chunks
    ]


def training_records(sampled: SampledGroups, advantages: Mapping[str, Tensor]) -> list[Record]:
    """The records of all rollouts of a step with their rewards, and with advantages for those that
    were trained on.
    """
    by_role = {role: values.tolist() for role, values in advantages.items()}
    trained = [rollout for group in sampled.groups for rollout in group]
    place = {id(rollout): n for n, rollout in enumerate(trained)}
    records = []
    for rollout in sampled.rollouts:
        n = place.get(id(rollout))
        own = {} if n is None else {role: values[n] for role, values in by_role.items()}
        made = record(rollout)
        records.append(made.with_training(rollout.parts, rollout.rewards, own, rollout.errors))
    return records
