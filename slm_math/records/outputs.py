"""Files that a command writes must not be those that it reads, or those of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

OF_RUNS = ("records.jsonl", "manifest.json", "summary.json", "rollouts.jsonl", "metrics.csv")


def check_output(out: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Raises ValueError where a file to write is one that the command reads, or one of an
    evaluation or a training run, which would be lost.
    """
    path = Path(out)
    if not path.exists() or path.is_dir():
        return
    read = [file for file in map(Path, inputs) if file.is_file()]
    if path.name in OF_RUNS or any(path.samefile(file) for file in read):
        what = "a file of a run" if path.name in OF_RUNS else "the input itself"
        raise ValueError(f"{out} is {what}, which would be lost: choose another --out")
