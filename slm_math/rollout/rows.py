"""From traces to training rows, and from rows to tensors. Tensors begin here.

Axes: N rows, T tokens of the longest row, M loss tokens of a batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slm_math.types import Trace


@dataclass
class Row:
    """A token sequence to train on. All lists have its length; `mask[t]` > 0 says that token t is learnt.

    `mask` weighs the token's loss (0 for context) and `weight` the whole row's; `logps` are sampling log-probabilities
    in nats, `reference` those of the reference policy (0 for context); `kept[t]` packs the ids that could be sampled at
    t, nothing where all could. `sample` is the index of the trace that the row is of, `group` that of its problem.
    """

    ids: list[int]
    mask: list[float]
    logps: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    temperature: float = 1.0
    weight: float = 1.0
    advantage: float = 0.0
    role: str = "solver"
    sample: int = 0
    group: int = 0

    @property
    def learnt(self) -> list[int]:
        """The positions of the loss tokens (the first token of a row has nothing to be predicted from)."""
        return [t for t in range(1, len(self.ids)) if self.mask[t] > 0]

    @property
    def loss_tokens(self) -> int:
        return len(self.learnt)


def trace_rows(trace: Trace, role: str) -> list[Row]:
    """The rows of one role in a trace: turns whose prompt extends prompt + reply of an earlier turn share a row.

    Equality is checked on token ids, so what is trained on is exactly what was sampled. Tool output and user turns
    are context. A turn at another temperature starts a row of its own. Empty replies (no token) and greedy
    turns (no samples of the policy) make no row.
    """
    rows: list[Row] = []
    for turn in trace.turns:
        reply = turn.reply
        if turn.request.role != role or not reply.token_ids:
            continue
        if turn.request.temperature == 0:  # by the agent's wish; a reply's own temperature is 1 then
            continue
        prompt = list(reply.prompt_ids)
        row = next(
            (
                row
                for row in reversed(rows)
                if row.temperature == reply.temperature and prompt[: len(row.ids)] == row.ids
            ),
            None,
        )
        if row is None:
            row = Row([], [], temperature=reply.temperature, role=role)
            rows.append(row)
        context = len(prompt) - len(row.ids)
        sampled = len(reply.token_ids)
        row.ids += [*prompt[len(row.ids) :], *reply.token_ids]
        row.mask += [0.0] * context + [1.0] * sampled
        row.logps += [0.0] * context + list(reply.logprobs or [float("nan")] * sampled)
        row.kept += [b""] * context + list(reply.kept or [b""] * sampled)
    return rows


@dataclass
class Batch:
    """Right-padded rows as tensors, with everything that belongs to a loss token gathered into flat vectors.

    ids, attention (N, T); positions follow from right padding. For the M loss tokens: `where` (M,) flat index into
    (N, T) of the position that *predicts* the token, `targets` (M,) its id, `weight` (M,) mask times the row's weight,
    `row` (M,) its row, `logps` (M,) sampling log-probability, `reference` (M,) or None, `temperature` (M,), `advantage`
    (M,); `support` lists what could be sampled (see `token_logprobs`), None where nothing was cut off. `role` is that
    of all rows.
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
        attention[n, : len(row.ids)] = 1  # from lengths, never from the pad id, which may be the EOS id
    learnt = [(n, t, row) for n, row in enumerate(rows) for t in row.learnt]

    def integers(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    def numbers(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    return Batch(
        ids=ids.to(device),
        attention=attention.to(device),
        where=integers([n * width + t - 1 for n, t, _ in learnt]),
        targets=integers([row.ids[t] for _, t, row in learnt]),
        weight=numbers([row.mask[t] * row.weight for _, t, row in learnt]),
        row=integers([n for n, _, _ in learnt]),
        logps=numbers([row.logps[t] if row.logps else 0.0 for _, t, row in learnt]),
        reference=numbers([row.reference[t] for _, t, row in learnt]) if all(r.reference for r in rows) else None,
        temperature=numbers([row.temperature for _, _, row in learnt]),
        advantage=numbers([row.advantage for _, _, row in learnt]),
        support=_support([row.kept[t] if row.kept else b"" for _, t, row in learnt], device),
        role=roles.pop(),
    )


def _support(kept: Sequence[bytes], device: torch.device | str) -> tuple[Tensor, Tensor] | None:
    if not any(kept):
        return None
    ids = array("i", b"".join(kept))
    sizes = torch.tensor([0, *(len(packed) // ids.itemsize for packed in kept)])
    return sizes.cumsum(0).to(device), torch.tensor(ids, dtype=torch.long, device=device)


def micro_batches(rows: Sequence[Row], tokens: int) -> Iterator[list[Row]]:
    """Splits rows into lists of one role with at most `tokens` positions each, padding included (at least one row).

    Rows of like length go together, which keeps padding low; the loss of a step does not depend on the split.
    """
    chunk: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.role, len(row.ids))):
        if chunk and (chunk[0].role != row.role or (len(chunk) + 1) * len(row.ids) > tokens):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk
