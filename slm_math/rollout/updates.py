"""The micro-batches of an update, and rows that change ranks, so that no rank waits for another one
that has more to read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from slm_math.data.rows import Row
from slm_math.policy.batches import (
    PLAIN,
    Batch,
    Reading,
    beginning,
    collate,
    micro_batches,
    shared_width,
    token_indices,
)
from slm_math.policy.ranks import exchange_over_ranks, gather_over_ranks, rank, rank_count
from slm_math.policy.transfer import Ahead, put
from slm_math.rollout.signals import Signals, any_by_row

UNEVEN = 0.02  # what a rank may have to read above the mean of all ranks

# micro-batches with their signals
Prepared: TypeAlias = Ahead[tuple[Batch, Signals]] | list[tuple[Batch, Signals]]


def training_batches(
    rows: Sequence[Row],
    signals: Signals,
    needs_all_rows: bool,
    tokens: int,
    device: torch.device,
    reading: Reading = PLAIN,
    exchanges: bool = True,
) -> Prepared:
    """The micro-batches of an update on `device`, each with its signals, made as they are needed.

    Args:
        rows: (N,) all rows of the step on this rank.
        needs_all_rows: whether rows whose advantages are all 0 matter beyond their share of the
            averages.
        tokens: positions of a micro-batch, padding included.
        reading: how the policy reads rows.
        exchanges: ranks give rows to each other, so that all have equally much to read.
    """
    there, live = any_by_row(rows, signals.weights), any_by_row(rows, signals.advantages)
    needed = [n for n in range(len(rows)) if there[n] and (live[n] or needs_all_rows)]
    rows, signals = _chosen(rows, signals, needed)
    if exchanges and rank_count() > 1:
        rows, signals = _exchanged(rows, signals, device, reading)

    def made(chunk: Sequence[int]) -> tuple[Batch, Signals]:
        batch = collate([rows[n] for n in chunk], device, reading)
        return batch, signals.select(put(token_indices(rows, chunk), device))

    return Ahead(made, micro_batches(rows, tokens, reading), device)


@dataclass(frozen=True)
class Load:
    """What a row takes: all its positions, and those of them that rows of its family share."""

    positions: int
    shared: int
    family: int


def _exchanged(
    rows: Sequence[Row], signals: Signals, device: torch.device, reading: Reading
) -> tuple[list[Row], Signals]:
    """The rows that this rank trains, with their signals: own ones that stay, then those of other
    ranks in their order.
    """
    families = {start: n for n, start in enumerate(dict.fromkeys(map(beginning, rows)))}
    own = [
        Load(row.width(reading.sight), shared_width(row, reading), families[beginning(row)])
        for row in rows
    ]
    goes = moves(gather_over_ranks(own))
    if not goes:
        return list(rows), signals
    here = rank()
    sent = {n: to for (owner, n), to in goes.items() if owner == here}
    parts = {}
    for to in set(sent.values()):
        given, values = _chosen(rows, signals, [n for n, goal in sent.items() if goal == to])
        parts[to] = given, values.to(torch.device("cpu"))
    stays = [n for n in range(len(rows)) if n not in sent]
    got = exchange_over_ranks(parts, device)
    mine = [_chosen(rows, signals, stays), *((given, all_.to(device)) for given, all_ in got)]
    return [row for part, _ in mine for row in part], Signals.joined([each for _, each in mine])


def _chosen(
    rows: Sequence[Row], signals: Signals, chosen: Sequence[int]
) -> tuple[list[Row], Signals]:
    """Some rows with their signals."""
    if len(chosen) == len(rows):
        return list(rows), signals
    tokens = token_indices(rows, chosen).to(signals.weights.device)
    return [rows[n] for n in chosen], signals.select(tokens)


Place: TypeAlias = tuple[int, int]  # of a row: the rank that made it, and its index there


class Shares:
    """Which rank reads which rows; a rank reads what a family shares once.

    Args:
        loads: of each rank, its rows.
    """

    def __init__(self, loads: Sequence[Sequence[Load]]) -> None:
        self.loads = loads
        self.held = [[(owner, n) for n in range(len(rows))] for owner, rows in enumerate(loads)]
        self.families = [Counter(map(self._family, held)) for held in self.held]
        self.totals = [
            sum(load.positions - load.shared for load in rows)
            + sum({load.family: load.shared for load in rows}.values())
            for rows in loads
        ]

    def _family(self, place: Place) -> tuple[int, int]:
        return place[0], self.loads[place[0]][place[1]].family

    def after(self, place: Place, giver: int, taker: int) -> tuple[int, int]:
        """What both ranks read once a row has moved."""
        load, family = self.loads[place[0]][place[1]], self._family(place)
        left = load.positions - (load.shared if self.families[giver][family] > 1 else 0)
        new = load.positions - (load.shared if self.families[taker][family] else 0)
        return self.totals[giver] - left, self.totals[taker] + new

    def even(self) -> None:
        """The rank that reads most gives rows to the one that reads least, as long as that makes
        the larger of both smaller.
        """
        most = (1 + UNEVEN) * sum(self.totals) / len(self.totals)
        while max(self.totals) > most:
            giver, taker = (self.totals.index(end(self.totals)) for end in (max, min))
            then = {place: self.after(place, giver, taker) for place in self.held[giver]}
            best = min(then, key=lambda place: max(then[place]))
            if max(then[best]) >= self.totals[giver]:
                return
            self.totals[giver], self.totals[taker] = then[best]
            self.held[giver].remove(best)
            self.held[taker].append(best)
            self.families[giver][self._family(best)] -= 1
            self.families[taker][self._family(best)] += 1


def moves(loads: Sequence[Sequence[Load]]) -> dict[Place, int]:
    """The rows that change ranks, so that all ranks read equally much, and where they go."""
    shares = Shares(loads)
    shares.even()
    return {
        place: holder
        for holder, held in enumerate(shares.held)
        for place in held
        if place[0] != holder
    }
