"""Reads folders of evaluations and of training runs for a report."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slm_math.evaluation.runs import evaluation_folders
from slm_math.metrics.summary import Summary, summarize
from slm_math.records.files import read_manifest, read_records
from slm_math.records.record import Record

RECORDS = "records.jsonl"
_EPOCH = re.compile(r"epoch-(\d+)")
_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class AgentRun:
    """The evaluation of one agent on one set of problems; runs on the same problems have the same
    number `data`.
    """

    name: str
    folder: Path
    records: Sequence[Record] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    summary: Summary = field(repr=False)
    data: int = 0

    @property
    def partial(self) -> bool:
        return bool(self.manifest.get("partial", False))

    @property
    def identity(self) -> Mapping[str, Any]:
        identity = self.manifest.get("identity")
        return identity if isinstance(identity, dict) else {}


@dataclass(frozen=True)
class AccuracyCurve:
    """Summaries of one agent over one training run: (epochs or steps done, summary), in order.

    Its name is that of the run of the last evaluation.
    """

    name: str
    unit: str
    points: tuple[tuple[int, Summary], ...]


@dataclass(frozen=True)
class RewardCurve:
    """Mean rewards of training steps: (optimizer step, reward)."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Material:
    """Everything that a report is made from."""

    runs: tuple[AgentRun, ...]
    curves: tuple[AccuracyCurve, ...] = ()
    rewards: tuple[RewardCurve, ...] = ()


def load(folders: Sequence[str]) -> Material:
    """Reads output folders of evaluations, folders of agents and folders of training runs.

    Raises ValueError naming a folder that is none of these, or that is named twice.
    """
    if not folders:
        raise ValueError(
            "report needs at least one folder of `slm-math eval`, or of a training run"
        )
    paths = [Path(folder).resolve() for folder in folders]
    twice = next((folder for folder, path in zip(folders, paths) if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice: name each folder once")
    agents: list[tuple[str, str, Path]] = []  # (folder as named, agent, its folder)
    trainings: list[tuple[str, list[Path]]] = []  # (folder, its evaluations in order)
    rewards: list[RewardCurve] = []
    for folder in folders:
        root = Path(folder)
        if not root.is_dir():
            raise ValueError(
                f"{folder} is not a folder: name one that `slm-math eval` or `slm-math fit` wrote"
            )
        if (root / RECORDS).is_file():
            agents.append((str(root.resolve().parent), root.resolve().name, root))
        elif own := evaluation_folders(root):
            agents += [(folder, *item) for item in own.items()]
        elif stages := _stages(root / "eval"):
            agents += [(folder, *item) for item in evaluation_folders(stages[-1]).items()]
            trainings.append((folder, stages))
            rewards += _reward_curves(root)
        else:
            raise ValueError(
                f"{folder} holds no evaluation: no {RECORDS}, */{RECORDS} or eval/*/*/{RECORDS}"
            )
    names = _unique_names(
        [(*Path(folder).resolve().parts, *agent.split("/")) for folder, agent, _ in agents]
    )
    named = {path: name for name, (_, _, path) in zip(names, agents)}
    curves = [
        curve for folder, stages in trainings for curve in _accuracy_curves(folder, stages, named)
    ]
    runs = _numbered([_read(name, path) for path, name in named.items()])
    return Material(tuple(runs), tuple(curves), tuple(rewards))


def _unique_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The agents' names, each with as many of its parent folders as make all names different."""
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path in paths if paths.count(path) > 1)
    raise ValueError(f"the same evaluation is named twice: {Path(*twice)}")


def _numbered(runs: Sequence[AgentRun]) -> list[AgentRun]:
    """The runs with their `data`; a partial run belongs to the first complete one that has all its
    problems.
    """
    problems = [frozenset(record.id for record in run.records) for run in runs]
    complete = [ids for run, ids in zip(runs, problems) if not run.partial]
    sets = [
        next((other for other in complete if ids <= other), ids) if run.partial else ids
        for run, ids in zip(runs, problems)
    ]
    numbers = list(dict.fromkeys(sets))
    return [replace(run, data=numbers.index(ids)) for run, ids in zip(runs, sets)]


def _stages(folder: Path) -> list[Path]:
    """The folders of a training run's evaluations, in the order of training; others (test,
    validate) come first.
    """

    def order(path: Path) -> tuple[int, int]:
        step, epoch = _STEP.fullmatch(path.name), _EPOCH.fullmatch(path.name)
        if epoch:
            return 3, int(epoch[1])
        return (2, int(step[1])) if step else (int(path.name == "start"), 0)

    return sorted((path for path in folder.glob("*") if evaluation_folders(path)), key=order)


def _accuracy_curves(
    folder: str, stages: Sequence[Path], named: Mapping[Path, str]
) -> list[AccuracyCurve]:
    curves = []
    for unit, pattern, first in (("epochs", _EPOCH, 1), ("steps", _STEP, 0)):
        done = {
            path: int(match[1]) + first
            for path in stages
            if (match := pattern.fullmatch(path.name))
        }
        if not done:
            continue
        done |= {path: 0 for path in stages if path.name == "start"}
        ordered = sorted(done.items(), key=lambda item: item[1])
        for agent in sorted({name for stage in done for name in evaluation_folders(stage)}):
            files = [(x, stage / agent / RECORDS) for stage, x in ordered]
            points = tuple(
                (x, summarize(read_records(file))) for x, file in files if file.is_file()
            )
            if len(points) > 1:
                name = named.get(stages[-1] / agent, f"{Path(folder).resolve().name}/{agent}")
                curves.append(AccuracyCurve(name, unit, points))
    return curves


def _reward_curves(root: Path) -> list[RewardCurve]:
    """`train/reward` of the newest log that has it."""
    for file in sorted(
        root.glob("logs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime, reverse=True
    ):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [(row.get("step"), row.get("train/reward")) for row in csv.DictReader(lines)]
        points = [(int(float(step)), float(reward)) for step, reward in rows if step and reward]
        points = [(step, reward) for step, reward in points if math.isfinite(reward)]
        if len(points) > 1:
            return [RewardCurve(root.resolve().name, tuple(points))]
    return []


def _read(name: str, folder: Path) -> AgentRun:
    records = read_records(folder / RECORDS)
    return AgentRun(
        name, folder, records=records, manifest=read_manifest(folder), summary=summarize(records)
    )
