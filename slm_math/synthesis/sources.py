"""What data are built from: evaluations, read once and named in a receipt."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slm_math.data.attempts import NO_EVALUATION, Attempt, Attempts, folders_of, read_attempts
from slm_math.data.base import Split
from slm_math.data.identity import question_key
from slm_math.data.published import split_by_problem
from slm_math.records.files import read_manifest
from slm_math.types import Problem


@dataclass(frozen=True)
class Evaluations:
    """The attempts of all named evaluations, each problem in one split.

    `facts` describes each evaluation: its folder, the hash of its records, data set, split and
    model.
    """

    attempts: Sequence[Attempt]
    splits: dict[str, Split]
    left_out: dict[str, int]
    facts: list[dict[str, Any]] = field(default_factory=list)

    def split(self, attempt: Attempt) -> Split:
        """The split of the attempt's problem, in all evaluations together."""
        return self.splits[question_key(attempt.problem)]

    def by_problem(self) -> dict[str, list[Attempt]]:
        """The attempts at each problem, in order, by `question_key`."""
        groups: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.attempts:
            groups[question_key(attempt.problem)].append(attempt)
        return dict(groups)


def read_evaluations(folders: Sequence[str], validation: float, again: bool = False) -> Evaluations:
    """The evaluations in these folders; with `again` every answer is graded again.

    Raises ValueError for a folder that holds none, and for one that is named twice.
    """
    found = [folder for name in folders for folder in _evaluations(Path(name))]
    twice = [folder for folder in found if found.count(folder) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named twice: name every evaluation once")
    attempts = Attempts.joined(read_attempts(folder, again) for folder in found)
    if not attempts.attempts:
        reasons = ", ".join(f"{count} {why}" for why, count in attempts.left_out.items())
        raise ValueError(f"{', '.join(map(str, found))}: there are no attempts to use ({reasons})")
    met: list[tuple[Problem, Split]] = [(each.problem, each.split) for each in attempts.attempts]
    return Evaluations(
        attempts=attempts.attempts,
        splits=split_by_problem(met, validation),
        left_out=attempts.left_out,
        facts=[_facts(folder) for folder in found],
    )


def _evaluations(path: Path) -> list[Path]:
    if not path.exists():
        raise ValueError(f"{path} does not exist: name the output folder of an evaluation")
    folders = folders_of(path) if path.is_dir() else []
    if not folders:
        raise ValueError(f"{path} cannot be built from: {NO_EVALUATION}")
    return folders


def _facts(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    identity, about = manifest.get("identity", {}), manifest.get("about", {})
    engines = identity.get("engines", {})
    return {
        "folder": str(folder),
        "sha256": hashlib.sha256((folder / "records.jsonl").read_bytes()).hexdigest(),
        "partial": bool(manifest.get("partial", True)),
        "source": about.get("source"),
        "split": about.get("split"),
        "agent": str(identity.get("agent", {}).get("class", "")).rpartition(".")[2] or None,
        "models": sorted({_model(engine) for engine in engines.values()} - {""}),
        "grader": identity.get("grader"),
    }


def _model(engine: Any) -> str:
    """What an engine serves, as its identity names it."""
    named = engine.get("model") or engine.get("path") if isinstance(engine, dict) else None
    return named if isinstance(named, str) else ""
