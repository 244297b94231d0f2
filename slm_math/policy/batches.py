"""Rows to train on, and from rows to tensors. Tensors begin here.

Axes: N rows, T tokens of the longest row, M loss tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slm_math.data.rows import Row


@dataclass
class Batch:
    """Right-padded rows as tensors, with everything that belongs to a loss token gathered into flat
    vectors.

    ids, attention (N, T); positions follow from right padding. For the M loss tokens: `where` (M,)
    flat index into (N, T) of the position that *predicts* the token, `targets` (M,) its id,
    `weight` (M,) mask times the row's weight, `row` (M,) its row, `logps` (M,) sampling
    log-probability, `reference` (M,) or None, `temperature` (M,), `advantage` (M,); `support` lists
    what could be sampled (see `token_logprobs`), None where nothing was cut off. `role` is that of
    all rows.
    """

    ids: Tensor
    attention: Tensor
    where: Tensor
    targets: Tensor
    weight: Tensor
    row: Tensor
    logps: Tensor
    reference: Tensor | None
    temperature: Tensor
    advantage: Tensor
    support: tuple[Tensor, Tensor] | None
    role: str


def collate(rows: Sequence[Row], device: torch.device | str = "cpu") -> Batch:
    """Rows (all of one role) to a batch on `device`."""
    roles = {row.role for row in rows}
    if len(roles) != 1:
        raise ValueError(f"a batch holds rows of one role, got {sorted(roles)}")
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    for n, row in enumerate(rows):
        ids[n, : len(row.ids)] = torch.tensor(row.ids)
        # from lengths, never from the pad id, which may be the EOS id
        attention[n, : len(row.ids)] = 1
    learnt = [row.learnt for row in rows]
    sizes = torch.tensor(list(map(len, learnt)))

    def tokens(name: str, empty: Any = 0) -> list[Any]:
        """What the rows say of their loss tokens."""
        said = ((getattr(row, name), where) for row, where in zip(rows, learnt))
        return [
            v
            for values, where in said
            for v in ([values[t] for t in where] if values else [empty] * len(where))
        ]

    def spread(name: str) -> Tensor:
        """What the rows say of themselves, for each of their loss tokens."""
        return torch.tensor(
            [getattr(row, name) for row in rows], dtype=torch.float32
        ).repeat_interleave(sizes)

    vectors = {
        "where": torch.tensor(
            [n * width + t - 1 for n, where in enumerate(learnt) for t in where], dtype=torch.long
        ),
        "targets": torch.tensor(tokens("ids"), dtype=torch.long),
        "weight": torch.tensor(tokens("mask"), dtype=torch.float32) * spread("weight"),
        "row": torch.arange(len(rows)).repeat_interleave(sizes),
        "logps": torch.tensor(tokens("logps"), dtype=torch.float32),
        "reference": torch.tensor(tokens("reference"), dtype=torch.float32),
        "temperature": spread("temperature"),
        "advantage": spread("advantage"),
    }
    fields = {name: vector.to(device) for name, vector in vectors.items()}
    if not all(row.reference for row in rows):
        fields["reference"] = None
    support = _support(tokens("kept", b""), device)
    return Batch(
        ids=ids.to(device),
        attention=attention.to(device),
        support=support,
        role=roles.pop(),
        **fields,
    )


def _support(kept: Sequence[bytes], device: torch.device | str) -> tuple[Tensor, Tensor] | None:
    if not any(kept):
        return None
    starts = torch.tensor([0, *(len(packed) // 4 for packed in kept)]).cumsum(0)
    return starts.to(device), torch.frombuffer(bytearray(b"".join(kept)), dtype=torch.int32).to(
        device, torch.long
    )


def micro_batches(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Splits rows into lists of one role with at most `tokens` positions each, padding included (at
    least one row).

    Rows of like length go together, which keeps padding low; the loss of a step does not depend on
    the split.
    """
    chunk: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.role, len(row.ids))):
        if chunk and (chunk[0].role != row.role or (len(chunk) + 1) * len(row.ids) > tokens):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk
