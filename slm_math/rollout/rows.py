"""From traces to training rows, and from rows to tensors. Tensors begin here.

Axes: N rows, T tokens of the longest row, M loss tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from slm_math.types import Trace


@dataclass
class Row:
    """A token sequence to train on. All lists have its length; `mask[t]` > 0 says that token t is learnt.

    `mask` weighs the token's loss (0 for context); `logps` are sampling log-probabilities in nats (0 for context).
    """

    ids: list[int]
    mask: list[float]
    logps: list[float] = field(default_factory=list)
    temperature: float = 1.0
    advantage: float = 0.0
    role: str = "solver"

    @property
    def loss_tokens(self) -> int:
        return sum(m > 0 for m in self.mask[1:])


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
            row = Row([], [], [], reply.temperature, role=role)
            rows.append(row)
        context = prompt[len(row.ids) :]
        row.ids += [*context, *reply.token_ids]
        row.mask += [0.0] * len(context) + [1.0] * len(reply.token_ids)
        row.logps += [0.0] * len(context) + list(reply.logprobs)
    return rows


@dataclass
class Batch:
    """Right-padded rows as tensors, with everything that belongs to a loss token gathered into flat vectors.

    ids, attention (N, T); positions follow from right padding. For the M loss tokens: `where` (M,) flat index into
    (N, T) of the position that *predicts* the token, `targets` (M,) its id, `mask` (M,) its weight, `row` (M,) its
    row, `logps` (M,) sampling log-probability, `temperature` (M,), `advantage` (M,). `role` is common to all rows.
    """

    ids: Tensor
    attention: Tensor
    where: Tensor
    targets: Tensor
    mask: Tensor
    row: Tensor
    logps: Tensor
    temperature: Tensor
    advantage: Tensor
    role: str

    @property
    def padding(self) -> float:
        """The share of positions that are padding."""
        return 1 - self.attention.sum().item() / self.attention.numel()


def collate(rows: Sequence[Row], device: torch.device | str = "cpu") -> Batch:
    """Rows (all of one role) to a batch on `device`."""
    roles = {row.role for row in rows}
    if len(roles) != 1:
        raise ValueError(f"a batch holds rows of one role, got {sorted(roles)}")
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    attention = torch.zeros(len(rows), width, dtype=torch.long)
    where: list[int] = []
    flat: dict[str, list[float]] = {"targets": [], "mask": [], "row": [], "logps": [], "temp": [], "adv": []}
    for n, row in enumerate(rows):
        ids[n, : len(row.ids)] = torch.tensor(row.ids)
        attention[n, : len(row.ids)] = 1  # from lengths, never from the pad id, which may be the EOS id
        learnt = [t for t in range(1, len(row.ids)) if row.mask[t] > 0]
        where += [n * width + t - 1 for t in learnt]
        flat["targets"] += [row.ids[t] for t in learnt]
        flat["mask"] += [row.mask[t] for t in learnt]
        flat["row"] += [n] * len(learnt)
        flat["logps"] += [row.logps[t] for t in learnt] if row.logps else [0.0] * len(learnt)
        flat["temp"] += [row.temperature] * len(learnt)
        flat["adv"] += [row.advantage] * len(learnt)
    vectors = torch.tensor([flat["mask"], flat["logps"], flat["temp"], flat["adv"]], dtype=torch.float32).to(device)
    return Batch(
        ids=ids.to(device),
        attention=attention.to(device),
        where=torch.tensor(where, dtype=torch.long, device=device),
        targets=torch.tensor(flat["targets"], dtype=torch.long, device=device),
        mask=vectors[0],
        row=torch.tensor(flat["row"], dtype=torch.long, device=device),
        logps=vectors[1],
        temperature=vectors[2],
        advantage=vectors[3],
        role=roles.pop(),
    )


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
