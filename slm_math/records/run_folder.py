"""The folder of a training run, which holds one run: no other may write into it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

# by `slm-math fit`, and by a Trainer of one's own whose logger is Lightning's default
METRICS = ("logs/*/metrics.csv", "lightning_logs/*/metrics.csv")
# evaluations that training made; those of `validate`, `test` and `predict` are no part of a run
TRAINED = re.compile(r"(epoch|step)-\d+")
# the value of `--ckpt_path` that resumes from the newest checkpoint, and starts a run without one
LAST_IF_ANY = "last_if_any"
STATUS = "status.json"  # what a run is doing now
CONTROLS = "controls"  # the folder of a run's control arms, each a run of its own
# what a run writes into its folder
PARTS = (
    "manifest.json",
    STATUS,
    "checkpoints",
    "logs",
    "lightning_logs",
    "eval",
    "export",
    CONTROLS,
)


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
    run = f"a run of {started}" if started else f"a run ({', '.join(traces)})"
    goes_on = any((root / "checkpoints").glob("*.ckpt"))
    resume = (
        "--ckpt_path last goes on with it, "
        if goes_on
        else f"--ckpt_path {LAST_IF_ANY} sets it aside, since it has no checkpoint, "
    )
    raise ValueError(
        f"{root} holds {run}, and a folder holds one: {resume}"
        "--trainer.default_root_dir OTHER starts a new one elsewhere, or move the folder away"
    )


def set_run_aside(root: Path) -> Path:
    """Moves what a run left in a folder to `<root>/replaced-<n>`, which it returns; other files,
    such as the log of a job, stay.
    """
    names = (root / f"replaced-{i}" for i in range(1, 1 << 30))
    aside = next(name for name in names if not name.exists())
    aside.mkdir()
    for path in (*(root / name for name in PARTS), *root.glob("rollouts*.jsonl")):
        if path.exists():
            path.rename(aside / path.name)
    return aside


def traces_of_training(root: Path) -> list[str]:
    """What the steps of a training run left in a folder, by name; [] if it holds no run."""
    evaluations = (root / "eval").glob("*/**/records.jsonl")
    found = {
        "checkpoints": any((root / "checkpoints").glob("*.ckpt")),
        "rollouts": any(map(_filled, root.glob("rollouts*.jsonl"))),
        "logs": any(map(_has_steps, logs_of(root))),
        "eval": any(
            TRAINED.fullmatch(path.relative_to(root / "eval").parts[0]) and _filled(path)
            for path in evaluations
        ),
        "export": (root / "export").is_dir(),
    }
    return [name for name, there in found.items() if there]


def logs_of(root: Path) -> list[Path]:
    """The logs of metrics in a folder, in the order in which their sessions began."""
    return sorted((path for each in METRICS for path in root.glob(each)), key=_session)


def _session(path: Path) -> tuple[int, str]:
    number = path.parent.name.removeprefix("version_")
    return int(number) if number.isdecimal() else -1, str(path)


def _filled(path: Path) -> bool:
    return path.stat().st_size > 0


def _has_steps(path: Path) -> bool:
    """Whether a log has metrics of training steps; that of `validate` has others."""
    with path.open(encoding="utf-8") as lines:
        return "train/" in next(lines, "")
