"""The micro-batches of an update: which rows it computes, and together with which others.

Axes: N rows, M loss tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.policy.batches import Batch, collate, micro_batches, token_indices
from slm_math.rollout.signals import Signals, any_by_row


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
    chunks = update_chunks(rows, signals.advantages, there, needs_all_rows, tokens)
    return [
        (
            collate([rows[n] for n in chunk], device),
            signals.select(token_indices(rows, chunk).to(device)),
        )
        for chunk in chunks
    ]
