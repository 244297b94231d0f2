"""Turns rows into tensors.

Axes: N rows, T tokens of the longest row, M loss tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from slm_math.data.rows import Eyes, Row
from slm_math.policy.forward import Inputs


@dataclass(frozen=True)
class Batch:
    """Rows of one role as tensors; values of the loss tokens are gathered into flat vectors.

    Args:
        inputs: the rows, padded on the right.
        where: (M,) flat index into (N, T) of the position that *predicts* the loss token.
        targets: (M,) the token's id.
        mask: (M,) the weight of the token's loss in its row.
        row: (M,) the index of the token's row.
        sampling: (M,) the engine's log-probability of the token in nats, NaN if unknown.
        temperature: (M,) at which the token was sampled.
        support: which tokens could be sampled (see `token_logprobs`), None if all could.
        role: the role of all rows.
        positions: the number of positions that the network reads.
        filled: the number of them that are not padding.
    """

    inputs: Inputs
    where: Tensor
    targets: Tensor
    mask: Tensor
    row: Tensor
    sampling: Tensor
    temperature: Tensor
    support: tuple[Tensor, Tensor] | None
    role: str
    positions: int
    filled: int


def collate(
    rows: Sequence[Row], device: torch.device | str = "cpu", sight: Eyes | None = None
) -> Batch:
    """A batch on `device` of rows, all of one role, for a model with these eyes. Raises ValueError
    for several roles.
    """
    roles = {row.role for row in rows}
    if len(roles) != 1:
        raise ValueError(f"a batch holds rows of one role, got {sorted(roles)}")
    widths = [row.width(sight) for row in rows]
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for n, row in enumerate(rows):
        ids[n, : len(row.ids)] = torch.tensor(row.ids)
    positions = [row.loss_positions for row in rows]
    counts = torch.tensor(list(map(len, positions)))
    flat = [n * width + t - 1 for n, own in enumerate(positions) for t in own]
    temperatures = torch.tensor([row.temperature for row in rows], dtype=torch.float32)
    sampling = _at_loss_tokens(rows, "logprobs", float("nan"))
    support = _at_loss_tokens(rows, "support", b"")
    columns = {
        "where": torch.tensor(flat, dtype=torch.long),
        "targets": torch.tensor(_at_loss_tokens(rows, "ids"), dtype=torch.long),
        "mask": torch.tensor(_at_loss_tokens(rows, "mask"), dtype=torch.float32),
        "row": torch.arange(len(rows)).repeat_interleave(counts),
        "sampling": torch.tensor(sampling, dtype=torch.float32),
        "temperature": temperatures.repeat_interleave(counts),
    }
    return Batch(
        # no mask: rows are padded on the right, where causal attention never looks
        inputs=Inputs.of_rows(ids.to(device), images=tuple(row.images for row in rows)),
        support=_support(support, device),
        role=roles.pop(),
        positions=len(rows) * max(widths),
        filled=sum(widths),
        **{name: column.to(device) for name, column in columns.items()},
    )


def _at_loss_tokens(rows: Sequence[Row], name: str, missing: Any = None) -> list[Any]:
    """The column `name` at all loss tokens; `missing` for rows that do not have the column."""
    columns = ((getattr(row, name), row.loss_positions) for row in rows)
    return list(
        chain.from_iterable(
            [values[t] for t in positions] if values else [missing] * len(positions)
            for values, positions in columns
        )
    )


def _support(packed: Sequence[bytes], device: torch.device | str) -> tuple[Tensor, Tensor] | None:
    if not any(packed):
        return None
    starts = torch.tensor([0, *(len(ids) // 4 for ids in packed)]).cumsum(0)
    ids = torch.frombuffer(bytearray(b"".join(packed)), dtype=torch.int32)
    return starts.to(device), ids.to(device, torch.long)


def micro_batches(rows: Sequence[Row], tokens: int, sight: Eyes | None = None) -> list[list[int]]:
    """Splits rows into micro-batches for a model with these eyes, given as lists of indices into
    `rows`.

    A micro-batch holds rows of one role: at most `tokens` positions, padding included, but at least
    one row. Rows of similar length go together, which keeps padding low. The loss of a step does
    not depend on the split.
    """
    batches: list[list[int]] = []
    widths = [row.width(sight) for row in rows]
    for n in sorted(range(len(rows)), key=lambda n: (rows[n].role, widths[n])):
        batch = batches[-1] if batches else []
        other_role = batch and rows[batch[0]].role != rows[n].role
        if batch and not other_role and (len(batch) + 1) * widths[n] <= tokens:
            batch.append(n)
        else:
            batches.append([n])
    return batches


def token_counts(rows: Sequence[Row]) -> Tensor:
    """The number of loss tokens of each row, (N,)."""
    return torch.tensor([len(row.loss_positions) for row in rows], dtype=torch.long)


def token_indices(rows: Sequence[Row], chosen: Sequence[int]) -> Tensor:
    """The indices into M of the loss tokens of the rows `chosen`, in the order of `chosen`."""
    ends = token_counts(rows).cumsum(0).tolist()
    starts = [0, *ends]
    return torch.cat([torch.arange(0), *(torch.arange(starts[n], ends[n]) for n in chosen)])
