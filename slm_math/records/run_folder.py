"""The folder of a training run, which holds one run: no other may write into it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

METRICS = "logs/version_*/metrics.csv"
# evaluations that training made; those of `validate`, `test` and `predict` are no part of a run
TRAINED = re.compile(r"(epoch|step)-\d+")


def read_run(root: Path) -> dict[str, Any]:
    """The manifest of the training run in a folder; {} if it has none."""
    try:
        data = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and {"started", "policy"} <= set(data) else {}


def refuse_second_run(root: Path) -> None:
    """Raises ValueError if a run trained in this folder: a second one would mix with it.

    A run that ended before its first step leaves nothing that could be mistaken for another's.
    """
    traces = traces_of_training(root)
    if not traces:
        return
    started = read_run(root).get("started")
    run = f"a run of {started}" if started else "a training run"
    goes_on = any((root / "checkpoints").glob("last*.ckpt"))
    resume = "--ckpt_path last goes on with it, " if goes_on else ""
    raise ValueError(
        f"{root} holds {run} ({', '.join(traces)}), and a folder holds one: {resume}"
        "--trainer.default_root_dir OTHER starts a new one elsewhere, or move the folder away"
    )


def traces_of_training(root: Path) -> list[str]:
    """What the steps of a training run left in a folder, by name; [] if it holds no run."""
    evaluations = (root / "eval").glob("*/**/records.jsonl")
    found = {
        "checkpoints": any((root / "checkpoints").glob("*.ckpt")),
        "rollouts": any(map(_filled, root.glob("rollouts*.jsonl"))),
        "logs": any(map(_has_steps, root.glob(METRICS))),
        "eval": any(
            TRAINED.fullmatch(path.relative_to(root / "eval").parts[0]) and _filled(path)
            for path in evaluations
        ),
        "export": (root / "export").is_dir(),
    }
    return [name for name, there in found.items() if there]


def _filled(path: Path) -> bool:
    return path.stat().st_size > 0


def _has_steps(path: Path) -> bool:
    """Whether a log has metrics of training steps; that of `validate` has others."""
    with path.open(encoding="utf-8") as lines:
        return "train/" in next(lines, "")
