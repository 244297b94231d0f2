"""What evaluations are called: the same in every command that names several of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath


def names_of(folders: Sequence[PurePath]) -> list[str]:
    """The names of evaluations: their folders without what all have in common at the beginning,
    which is of one machine; those of equal names with their place among all.
    """
    parts = [folder.parts for folder in folders]
    common = min(map(len, parts)) - 1
    while common and len({each[:common] for each in parts}) > 1:
        common -= 1
    names = ["/".join(each[common:]) for each in parts]
    counts = Counter(names)
    return [
        f"{name} (run {place})" if counts[name] > 1 else name for place, name in enumerate(names, 1)
    ]
