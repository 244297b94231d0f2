"""What a run logged."""

from __future__ import annotations

import csv
from pathlib import Path

from slm_math.metrics.meanings import meaning

NOT_METRICS = ("epoch", "step")


def undescribed(root: Path) -> list[str]:
    """The metrics in the logs of a training run that have no meaning."""
    [log] = root.glob("logs/version_*/metrics.csv")
    with log.open(encoding="utf-8") as file:
        names = next(csv.reader(file))
    return [name for name in names if name not in NOT_METRICS and not _known(name)]


def _known(name: str) -> bool:
    kind, _, rest = name.partition("/")
    if kind == "eval":  # eval/<agent>/NAME or eval/<set>/<agent>/NAME
        _, _, rest = rest.partition("/")
        return any(map(meaning, (rest, rest.partition("/")[2])))
    return bool(meaning(rest if kind == "train" else name))
