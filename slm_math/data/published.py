"""What the published data sets share: their files by split, and the part that is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from slm_math.data.base import Split
from slm_math.data.files import FileRow, HubFile, fetch, read_rows, split_files
from slm_math.data.identity import question_key, scene_key
from slm_math.data.normalized import normalized
from slm_math.types import Problem, Task


def published_rows(
    path: Path | None, part: str, hub: HubFile, required: bool = True, any_name: bool = False
) -> list[FileRow]:
    """The rows of the published split `part` ("train" or "test"), local or from the hub.

    The name of a single file says which split it is: `test...` is the test split, any other name
    the training split, unless `any_name`. So a training run never reads a test file by accident.
    Raises FileNotFoundError or ValueError if a `required` split is missing or empty.
    """
    if path is None:
        return read_rows(fetch(hub, f"; or set `path` to a local copy of {hub.repo}"))
    if path.is_dir():
        files = split_files(path, part)
    else:
        own = next((name for name in ("train", "test") if path.stem.startswith(name)), "train")
        files = [path] if any_name or own == part else []
    if required and not files:
        raise FileNotFoundError(
            f"{path}: no {part} split here; expected {part}.jsonl, .json or .parquet"
        )
    rows = [row for file in files for row in read_rows(file)]
    if required and not rows:
        raise ValueError(f"{files[0]}: holds no rows")
    return rows


def published_split(split: Split) -> str:
    """The published split that a split is a part of: validation problems come from "train"."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r} is not one of train, validation, test")
    return "test" if split == "test" else "train"


def split_part(tasks: list[Task], split: Split, validation: float) -> list[Task]:
    """The training or the held-out part of the published training split; a test split unchanged."""
    if published_split(split) == "test":
        return tasks
    return [
        task for task in tasks if is_held_out(task.problem, validation) == (split == "validation")
    ]


def is_held_out(problem: Problem, fraction: float) -> bool:
    """Whether a problem belongs to validation: its images decide if it has any, all of them by
    their content, else its normalized text. So the same problem is held out in every data set, and
    all problems about the same images are, whose texts are often the same ("Find x.").
    """
    decisive = scene_key(problem) or normalized(problem.text)
    digest = hashlib.sha256(decisive.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def split_by_problem(
    problems: Iterable[tuple[Problem, Split]], validation: float
) -> dict[str, Split]:
    """The split of each problem by its `question_key`, given the split in which each was met.

    What is held out in one place is nowhere trained on: a problem is a test problem if it is one
    anywhere, then a validation problem, and of training problems those are held out for validation
    that GSM8K and MATH hold out. All problems about the same images are in one split.
    """
    decisive: dict[str, Split] = {}
    scenes: dict[str, str] = {}  # what decides about a problem, by its key
    for problem, split in problems:
        key = question_key(problem)
        scene = scenes[key] = scene_key(problem) or key
        if split == "test" or (split == "validation" and decisive.get(scene) != "test"):
            decisive[scene] = split
        elif scene not in decisive:
            held_out = is_held_out(problem, validation)
            decisive[scene] = "validation" if held_out else "train"
    return {key: decisive[scene] for key, scene in scenes.items()}


def existing_path(path: str | None) -> Path | None:
    """The `path` of a data set; None for the hub. Raises FileNotFoundError if it does not exist."""
    if path is not None and not Path(path).expanduser().exists():
        raise FileNotFoundError(f"{path} does not exist (path of a data set)")
    return Path(path).expanduser() if path is not None else None


def checked_fraction(value: float) -> float:
    """The share of held-out problems. Raises ValueError outside of [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"validation must be a fraction in [0, 1), got {value}")
    return value


def checked_limit(limit: int | None) -> int | None:
    """The limit of problems per split. Raises ValueError below 1."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be a positive number of problems, got {limit}")
    return limit
