"""The rewards of training steps, from the logs of a run."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from slm_math.records.run_folder import logs_of


@dataclass(frozen=True)
class RewardCurve:
    """Mean rewards of training steps: (optimizer step, reward)."""

    name: str
    points: tuple[tuple[int, float], ...]


def reward_curve(root: Path) -> tuple[list[RewardCurve], list[str]]:
    """The curve of a run's `train/reward`, [] without one; and why there is none, unless none is to
    be expected.

    A run that was resumed has a log for every session: a later one replaces the steps that it
    repeated.
    """
    files = logs_of(root)
    if not files:
        reason = "no metrics were logged, as with --trainer.logger false"
        return [], [f"{root}: no curve of rewards, since {reason}"]
    points: dict[int, float] = {}
    for file in files:
        session = _rewards(file)
        if session is not None:
            begin = min(session, default=0)
            points = {step: reward for step, reward in points.items() if step < begin} | session
    curve = tuple(sorted((step, reward) for step, reward in points.items()))
    return [RewardCurve(root.resolve().name, curve)] if len(curve) > 1 else [], []


def _rewards(file: Path) -> dict[int, float] | None:
    """step -> reward, where it is finite; {} for training without rewards, None for no training."""
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if not any(name.startswith("train/") for name in reader.fieldnames or ()):
            return None
        rows = [(row.get("step"), row.get("train/reward")) for row in reader]
    rewards = {int(float(step)): float(reward) for step, reward in rows if step and reward}
    return {step: reward for step, reward in rewards.items() if math.isfinite(reward)}
