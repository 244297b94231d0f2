"""Turns rows into tensors.

Axes: N rows, T tokens of the longest row, M loss tokens of a batch, W tokens of packed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slm_math.data.rows import Row
from slm_math.policy.forward import TEXT_ONLY, Inputs
from slm_math.policy.packing import Packed, Sequences, pack
from slm_math.policy.prefixes import SHORTEST
from slm_math.policy.sight import Sight
from slm_math.policy.transfer import Ahead, put
from slm_math.types import Image

PADDING = 0.1  # of the positions of a micro-batch, at most
FEW = 1024  # positions; a micro-batch this small may have more padding


@dataclass(frozen=True)
class Reading:
    """How a model reads rows.

    Args:
        sight: its eyes, None if it reads text only.
        packs: whether rows are packed (see `packing`) or padded.
    """

    sight: Sight | None = None
    packs: bool = False


PLAIN = Reading()


@dataclass(frozen=True)
class Batch:
    """Rows of one role as tensors; values of the loss tokens are gathered into flat vectors.

    Args:
        inputs: the rows, packed, or padded on the right.
        where: (M,) flat index into (N, T) or (1, W) of the position that *predicts* the loss token.
        targets: (M,) the token's id.
        mask: (M,) the weight of the token's loss in its row.
        row: (M,) the index of the token's row.
        sampling: (M,) the engine's log-probability of the token in nats, NaN if unknown.
        temperature: (M,) at which the token was sampled.
        support: which tokens could be sampled (see `token_logprobs`), None if all could; where
            each begins stays on the CPU.
        role: the role of all rows.
        positions: the number of positions that the network reads.
        filled: the number of tokens of the rows; more than `positions` where rows share some.
    """

    inputs: Inputs | Packed
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
    rows: Sequence[Row], device: torch.device | str = "cpu", reading: Reading = PLAIN
) -> Batch:
    """A batch on `device` of rows, all of one role, for a model that reads in this way. Raises
    ValueError for several roles.
    """
    roles = {row.role for row in rows}
    if len(roles) != 1:
        raise ValueError(f"a batch holds rows of one role, got {sorted(roles)}")
    counts = [len(row.loss_positions) for row in rows]
    temperatures = np.array([row.temperature for row in rows], dtype=np.float32)
    widths = [row.width(reading.sight) for row in rows]
    inputs, where = (_packed if reading.packs else _padded)(rows, reading.sight)
    width = inputs.width if isinstance(inputs, Packed) else len(rows) * max(widths)
    columns = {
        "where": joined(where, torch.long),
        "targets": joined([row.tokens[row.loss_positions] for row in rows], torch.long),
        "mask": joined([row.loss_weights for row in rows]),
        "row": torch.from_numpy(np.arange(len(rows)).repeat(counts)),
        "sampling": joined([row.loss_logprobs for row in rows]),
        "temperature": torch.from_numpy(temperatures.repeat(counts)),
    }
    return Batch(
        inputs=inputs.to(device),
        support=_support(rows, device),
        role=roles.pop(),
        positions=width,
        filled=sum(widths),
        **{name: put(column, device) for name, column in columns.items()},
    )


def collated(
    rows: Sequence[Row],
    chunks: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    reading: Reading = PLAIN,
) -> Ahead[Batch]:
    """The micro-batches of `chunks`, indices into rows, each made before it is asked for."""
    return Ahead(lambda chunk: collate([rows[n] for n in chunk], device, reading), chunks, device)


def joined(values: Sequence[NDArray[Any]], dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of all rows' loss tokens, row by row: (M,)."""
    whole = torch.from_numpy(np.concatenate(values)) if values else torch.zeros(0)
    return whole.to(dtype)


def _padded(rows: Sequence[Row], sight: Sight | None) -> tuple[Inputs, list[NDArray[np.int64]]]:
    """The rows, padded on the right, and where their loss tokens are predicted."""
    # no mask: causal attention never looks to the right
    ids = np.zeros((len(rows), max(len(row.ids) for row in rows)), dtype=np.int64)
    for own, row in zip(ids, rows):
        own[: len(row.ids)] = row.tokens
    where = [n * ids.shape[1] + row.loss_positions - 1 for n, row in enumerate(rows)]
    images = tuple(row.images for row in rows)
    return Inputs.of_rows(torch.from_numpy(ids), images=images), where


def _packed(rows: Sequence[Row], sight: Sight | None) -> tuple[Packed, list[NDArray[np.int64]]]:
    """The rows, packed, and where their loss tokens are predicted."""
    sequences, index = _sequences(rows, sight)
    packed = pack(sequences)
    where = [
        places[own[row.loss_positions - 1]] for row, places, own in zip(rows, packed.places, index)
    ]
    return packed, where


def _sequences(
    rows: Sequence[Row], sight: Sight | None
) -> tuple[Sequences, list[NDArray[np.int64]]]:
    """The rows as a network with these eyes reads them, and for each where its tokens are then; an
    image's last one.
    """
    ids = [row.tokens for row in rows]
    if not any(row.images for row in rows):
        counted = np.arange(max(map(len, ids)))
        index = [counted[: len(own)] for own in ids]
        return Sequences(ids, index, [()] * len(rows)), index
    if sight is None:
        raise ValueError(TEXT_ONLY)
    seen = sight.seen([row.ids for row in rows], [row.images for row in rows])
    index = [own[: len(row.ids)].numpy() for own, row in zip(seen.index, rows)]
    shown = [
        np.flatnonzero(own == sight.placeholder_id)[: len(row.images)]
        for own, row in zip(ids, rows)
    ]
    lengths = seen.lengths.tolist()
    sequences = Sequences(
        ids=[own[:length].numpy() for own, length in zip(seen.ids, lengths)],
        positions=[seen.positions[..., n, :length].numpy() for n, length in enumerate(lengths)],
        images=[
            tuple(zip(own[places].tolist(), row.images))
            for own, places, row in zip(index, shown, rows)
        ],
    )
    return sequences, index


def _support(rows: Sequence[Row], device: torch.device | str) -> tuple[Tensor, Tensor] | None:
    """What could be sampled at the loss tokens."""
    if not any(any(row.support) for row in rows):
        return None
    packed = [
        row.support[t] if row.support else b"" for row in rows for t in row.loss_positions.tolist()
    ]
    starts = torch.tensor([0, *accumulate(len(ids) // 4 for ids in packed)])
    ids = torch.frombuffer(bytearray(b"".join(packed)), dtype=torch.int32)
    return starts, put(ids.long(), device)


def micro_batches(rows: Sequence[Row], tokens: int, reading: Reading = PLAIN) -> list[list[int]]:
    """Splits rows into micro-batches for a model that reads in this way, given as lists of indices
    into `rows`.

    A micro-batch holds rows of one role: at most `tokens` positions, but at least one row. Long
    rows come first, so that a step that does not fit into memory fails at its begin. The loss of a
    step does not depend on the split.

    Packed rows that begin with the same context go together, which is then read once. Of padded
    rows those of similar length do: at most a tenth of the positions is padding, unless there are
    few of them.
    """
    split = _packed_batches if reading.packs else _padded_batches
    return [
        batch
        for role in sorted({row.role for row in rows})
        for batch in split(rows, [n for n, r in enumerate(rows) if r.role == role], reading, tokens)
    ]


def _padded_batches(
    rows: Sequence[Row], chosen: Sequence[int], reading: Reading, tokens: int
) -> list[list[int]]:
    batches: list[list[int]] = []
    widths = {n: rows[n].width(reading.sight) for n in chosen}
    longest = filled = 0
    for n in sorted(chosen, key=lambda n: -widths[n]):
        positions = (len(batches[-1]) + 1) * longest if batches else tokens + 1
        padding = positions - filled - widths[n]
        if positions <= tokens and (positions <= FEW or padding <= PADDING * positions):
            batches[-1].append(n)
            filled += widths[n]
        else:
            batches.append([n])
            longest = filled = widths[n]
    return batches


def _packed_batches(
    rows: Sequence[Row], chosen: Sequence[int], reading: Reading, tokens: int
) -> list[list[int]]:
    families: dict[Any, list[int]] = {}
    widths = {n: rows[n].width(reading.sight) for n in chosen}
    for n in sorted(chosen, key=lambda n: -widths[n]):
        families.setdefault(beginning(rows[n]), []).append(n)
    batches: list[list[int]] = []
    used = 0
    for family in families.values():
        shared = shared_width(rows[family[0]], reading)
        for place, n in enumerate(family):
            new = widths[n] - (shared if place else 0)
            if batches and used + new <= tokens:
                batches[-1].append(n)
                used += new
            else:
                batches.append([n])
                used = widths[n]
    return batches


def beginning(row: Row) -> tuple[tuple[Image, ...], tuple[int, ...]]:
    """What packed rows have in common that are read together: images, and the ids before the first
    loss token.
    """
    return row.images, row.ids[: row.loss_positions[0]] if len(row.loss_positions) else row.ids


def shared_width(row: Row, reading: Reading) -> int:
    """How many positions of a row's `beginning` are read once for all rows that have it."""
    _, context = beginning(row)
    if not reading.packs or len(context) < SHORTEST:
        return 0
    sight = reading.sight
    if sight is None or not row.images:
        return len(context)
    return len(context) + sight.extent(row.images[: context.count(sight.placeholder_id)]).extra


def token_counts(rows: Sequence[Row]) -> Tensor:
    """The number of loss tokens of each row, (N,)."""
    return torch.tensor([len(row.loss_positions) for row in rows], dtype=torch.long)


def token_indices(rows: Sequence[Row], chosen: Sequence[int]) -> Tensor:
    """The indices into M of the loss tokens of the rows `chosen`, in the order of `chosen`."""
    ends = token_counts(rows).cumsum(0).tolist()
    starts = [0, *ends]
    return torch.cat([torch.arange(0), *(torch.arange(starts[n], ends[n]) for n in chosen)])
