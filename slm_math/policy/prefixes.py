"""Sequences as a tree, in which what several of them begin with stands once.

Axes: N sequences, T tokens of one.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SHORTEST = 16  # tokens; to share fewer costs more than it saves


@dataclass(eq=False)
class Segment:
    """The tokens `start` to `end` of a sequence, which follow on those of the parent.

    Args:
        sequence: the index of one of the sequences that have these tokens.
        start: the number of tokens before them.
        end: the number of tokens with them.
        parent: the segment before them, None at the beginning.
    """

    sequence: int
    start: int
    end: int
    parent: Segment | None
    place: int = field(default=0)  # of the first of them among the tokens of all segments

    def __len__(self) -> int:
        return self.end - self.start

    def places(self) -> NDArray[np.int64]:
        """(end,) where the first tokens of its sequences stand among those of all segments."""
        own = np.arange(self.place, self.place + len(self))
        return own if self.parent is None else np.concatenate([self.parent.places(), own])


def prefix_tree(
    sequences: Sequence[NDArray[np.int64]], kinds: Sequence[Hashable]
) -> tuple[list[Segment], list[Segment]]:
    """All segments of N sequences (T,), and the last one of each sequence, of which it has the
    first T tokens.

    Only sequences of one kind share segments.
    """
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    keys = [(numbers[kind], ids.astype(">i8").tobytes()) for kind, ids in zip(kinds, sequences)]
    segments: list[Segment] = []
    last: dict[int, Segment] = {}
    path: list[Segment] = []  # from the beginning of the sequence before to its last segment
    before = -1
    for n in sorted(range(len(sequences)), key=keys.__getitem__):
        common = 0
        if path and kinds[before] == kinds[n]:
            common = _common(sequences[before], sequences[n])
        while path and common - path[-1].start < SHORTEST:
            path.pop()
        if path and common < path[-1].end:
            lower = path[-1]
            upper = Segment(lower.sequence, lower.start, common, lower.parent)
            lower.start, lower.parent = common, upper
            path[-1] = upper
            segments.append(upper)
        parent = path[-1] if path else None
        start = parent.end if parent else 0
        if start < len(sequences[n]):
            path.append(Segment(n, start, len(sequences[n]), parent))
            segments.append(path[-1])
        last[n] = path[-1]
        before = n
    return segments, [last[n] for n in range(len(sequences))]


def _common(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many tokens two sequences begin with alike."""
    shorter = min(len(one), len(other))
    different = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(different[0]) if len(different) else shorter
