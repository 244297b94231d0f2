"""Runs to claim, made by scripted engines, and a claim of them as members of its file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.one_by_one import OneByOne, run
from rich.console import Console

from slm_math.agents import Agent, SelfCorrection, SingleShot
from slm_math.claims.archive import archive
from slm_math.claims.check import Checked, check_claim
from slm_math.claims.figures import claim_members
from slm_math.claims.frozen import FrozenRun, runs_of
from slm_math.records.record import Record
from slm_math.types import Problem, Task

N = 12
TASKS = [
    Task(Problem(f"p/{i}", f"What is {i} + 7?", tags={"level": str(i % 2)}), str(i + 7))
    for i in range(N)
]
RECORDS = "runs/1/records.jsonl.gz"
ABOUT = {"about": {"source": "sums", "split": "test"}}


def solves(right: Callable[[int], bool]) -> Callable[[Any], str]:
    """Replies of a model that is right on some problems."""

    def say(request: Any) -> str:
        number = int(request.key[-3].rpartition("/")[2])
        return rf"It is \boxed{{{number + 7 if right(number) else 0}}}."

    return say


def runs_in(folder: Path) -> list[str]:
    """Three finished evaluations: the folders of their agents."""
    agents: dict[str, tuple[Agent, Callable[[int], bool]]] = {
        "weak": (SingleShot(), lambda n: n % 3 == 0),
        "strong": (SingleShot(), lambda n: n % 4 != 1),
        "checked": (SelfCorrection(), lambda n: n % 2 == 0),
    }
    for name, (agent, right) in agents.items():
        run(folder / name, OneByOne(solves(right)), agent, TASKS, **ABOUT)
    return [str(folder / name) for name in agents]


def claimed(folder: Path) -> list[FrozenRun]:
    return runs_of(runs_in(folder))


def written(path: Path, members: dict[str, bytes]) -> Path:
    path.write_bytes(archive(members))
    return path


def forged(path: Path, runs: Sequence[FrozenRun]) -> Path:
    """A claim whose hashes and figures were all computed for these runs."""
    return written(path, claim_members(runs))


def changed(run: FrozenRun, place: int, change: Callable[[Record], Record]) -> FrozenRun:
    """A run with another record at a place."""
    records = list(run.records)
    records[place] = change(records[place])
    return replace(run, records=records)


def overlap(**more: Any) -> bytes:
    """What `slm-math overlap --out` writes: problem 3 is among a hundred training problems."""
    finding = {"test": "p/3", "train": "t/1", "kind": "exact", "near_exact": True}
    counts = {"training_problems": 100, "test_problems": N, "near_exact": 1}
    return json.dumps({**counts, "findings": [finding], **more}).encode()


def checked(path: Path) -> Checked:
    """The check of a claim file."""
    return check_claim(path, Console(file=io.StringIO()))


def moved(path: Path) -> list[str]:
    """What the check says that is not as it was."""
    return checked(path).moved
