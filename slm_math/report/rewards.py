"""The metrics of training steps, from the logs of a run."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from slm_math.records.run_folder import logs_of

# what a report shows of training, in this order: the name in the log, and the title
SHOWN = {
    "train/reward": "Reward in training",
    "train/loss": "Loss",
    "val/loss": "Validation loss",
    "train/kl": "Divergence from the reference policy",
    "train/entropy": "Entropy",
    "train/clip_region": "Clipped tokens",
    "train/engine_gap": "Difference between engine and policy",
    "train/frac_reward_zero_std": "Groups without a difference in reward",
    "train/length": "Length of replies",
    "train/truncated": "Truncated replies",
    "train/grad_norm": "Norm of the gradient",
    "train/lr": "Learning rate",
}


@dataclass(frozen=True)
class TrainingCurve:
    """A metric of training steps: (optimizer step, value). `name` is that of the run."""

    name: str
    points: tuple[tuple[int, float], ...]
    metric: str = "train/reward"


def training_curves(root: Path) -> tuple[list[TrainingCurve], list[str]]:
    """The curves of a run's metrics that are shown and have two values, and why there are none,
    unless none are to be expected.

    A run that was resumed has a log for every session: a later one replaces the steps that it
    repeated. Of the step at which it begins, it may have the validation alone.
    """
    files = logs_of(root)
    if not files:
        reason = "no metrics were logged, as with --trainer.logger false"
        return [], [f"{root}: no curves of training, since {reason}"]
    points: dict[str, dict[int, float]] = {name: {} for name in SHOWN}
    for file in files:
        session = _metrics(file)
        begin = min((step for values in session.values() for step in values), default=None)
        for name, values in points.items() if begin is not None else ():
            earlier = {step: value for step, value in values.items() if step <= begin}
            points[name] = earlier | session[name]
    run = root.resolve().name
    return [
        TrainingCurve(run, tuple(sorted(values.items())), name)
        for name, values in points.items()
        if len(values) > 1
    ], []


def _metrics(file: Path) -> dict[str, dict[int, float]]:
    """metric -> step -> value, where it is finite; nothing for a log of no training."""
    found: dict[str, dict[int, float]] = {name: {} for name in SHOWN}
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if not any(name.startswith("train/") for name in reader.fieldnames or ()):
            return found
        for row in reader:
            for name in SHOWN:
                if row.get("step") and row.get(name) and math.isfinite(value := float(row[name])):
                    found[name][int(float(row["step"]))] = value
    return found
