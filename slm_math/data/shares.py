"""How often an epoch of training draws from each part of its data."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part of the training data: its items, and how many of them an epoch draws.

    The draws of successive epochs go through one random order after another. So every item is drawn
    as often as any other of its part (at most once more), whether an epoch repeats items (more
    draws than items) or leaves some out.
    """

    name: str
    indices: tuple[int, ...]
    draws: int

    def drawn(self, epoch: int, seed: int) -> list[int]:
        """The indices that an epoch draws, in a random order."""
        size, start = len(self.indices), epoch * self.draws
        drawn: list[int] = []
        while len(drawn) < self.draws:
            turn, place = divmod(start + len(drawn), size)
            order = list(self.indices)
            random.Random(f"{seed} {self.name} {turn}").shuffle(order)
            drawn += order[place : place + self.draws - len(drawn)]
        return drawn


def parts_of(names: Sequence[str], weights: Mapping[str, float] | None) -> list[Part]:
    """The parts of items whose parts have these names. An epoch has as many draws as there are
    items; `weights` gives each part its share of them, and without weights all are drawn once.

    Raises ValueError for a part with a weight and without items, or with items and no weight.
    """
    indices: dict[str, list[int]] = {name: [] for name in weights or ()}
    for index, name in enumerate(names):
        indices.setdefault(name, []).append(index)
    if weights is None:
        return [Part(name, tuple(own), len(own)) for name, own in indices.items()]
    for name, own in indices.items():
        if not own and weights[name] > 0:
            raise ValueError(f"{name} has the weight {weights[name]}, and nothing to train on")
        if name not in weights:
            raise ValueError(f"{name} has no weight")
    draws = _rounded({name: weights[name] for name in indices}, len(names))
    return [Part(name, tuple(own), draws[name]) for name, own in indices.items() if draws[name]]


def _rounded(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers in the proportion of the weights that add up to `total`."""
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    counts = {name: int(value) for name, value in exact.items()}
    nearest = sorted(exact, key=lambda name: counts[name] - exact[name])  # the largest rest first
    for name in nearest[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def shares_line(parts: Sequence[Part]) -> str:
    """The parts in one line: what they have, and what an epoch draws of it."""
    total = sum(part.draws for part in parts)
    return ", ".join(
        f"{part.name} {len(part.indices):,} rows"
        + ("" if part.draws == len(part.indices) else f" drawn {part.draws:,} times")
        + f" ({part.draws / total:.1%})"
        for part in parts
    )
