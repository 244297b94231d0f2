"""What each loss token weighs in the loss of a step.

Axes: N rows, M loss tokens of all rows: row by row, in the order of their positions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.losses.policy import row_weights
from slm_math.policy.batches import PLAIN, Reading, joined, micro_batches, token_counts
from slm_math.policy.ranks import sum_over_ranks
from slm_math.rollout.groups import Rollout
from slm_math.rollout.signals import any_by_row


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


def without_signal(
    rows: Sequence[Row],
    groups: Sequence[int | None],
    teacher: Tensor,
    rewarded: Collection[str],
) -> list[int | None]:
    """The groups, None for rows of which neither a reward nor the teacher says anything.

    Args:
        groups: (N,) see `averaged_groups`.
        teacher: (M,) its log-probabilities, NaN in rows that it did not score.
        rewarded: the roles with a reward.
    """
    scored = any_by_row(rows, ~teacher.isnan())
    return [
        group if scored[n] or rows[n].role in rewarded else None for n, group in enumerate(groups)
    ]


def micro_batch_groups(
    rows: Sequence[Row], groups: Sequence[int | None], tokens: int, reading: Reading = PLAIN
) -> list[int | None]:
    """The micro-batch of each row that counts (with a group), (N,), as a group to average over, for
    BNPO; None for the others. `tokens` bounds a micro-batch.
    """
    counted = [n for n, group in enumerate(groups) if group is not None]
    numbers: list[int | None] = [None] * len(rows)
    for number, chunk in enumerate(micro_batches([rows[n] for n in counted], tokens, reading)):
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
    masks = joined([row.loss_weights for row in rows])
    return masks * weights.float().repeat_interleave(counts)
