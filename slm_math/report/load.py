"""Folders of evaluations, and of training runs, as runs to report on."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slm_math.evaluation.runs import evaluations
from slm_math.metrics.summary import Summary, summarise
from slm_math.records.files import read_manifest, read_records

RECORDS = "records.jsonl"
_EPOCH = re.compile(r"epoch-(\d+)")
_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Run:
    """What one agent did on one set of problems. Runs on the same problems have the same number
    `data`.
    """

    name: str
    folder: Path
    records: Sequence[Mapping[str, Any]] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    summary: Summary = field(repr=False)
    data: int = 0

    @property
    def partial(self) -> bool:
        return bool(self.manifest.get("partial", False))

    @property
    def identity(self) -> Mapping[str, Any]:
        found = self.manifest.get("identity")
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Curve:
    """Summaries of one agent in the course of one training: (epochs or steps done, summary), in
    order.

    Its name is that of the run of its last evaluation.
    """

    name: str
    unit: str
    points: tuple[tuple[int, Summary], ...]


@dataclass(frozen=True)
class Reward:
    """Mean rewards of a training's steps: (optimiser step, reward)."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Material:
    """All that a report is made from."""

    runs: tuple[Run, ...]
    curves: tuple[Curve, ...] = ()
    rewards: tuple[Reward, ...] = ()


def load(folders: Sequence[str]) -> Material:
    """Reads evaluation folders, agents' folders and training roots.

    Raises ValueError naming a folder that is none of these, or that is named twice.
    """
    if not folders:
        raise ValueError(
            "report needs at least one folder of `slm-math eval`, or of a training run"
        )
    places = [Path(folder).resolve() for folder in folders]
    twice = next(
        (folder for folder, place in zip(folders, places) if places.count(place) > 1), None
    )
    if twice is not None:
        raise ValueError(f"{twice} is named twice: name each folder once")
    found: list[tuple[str, str, Path]] = []  # (folder as named, agent, its folder)
    courses: list[tuple[str, list[Path]]] = []  # (folder, its evaluations in order)
    rewards: list[Reward] = []
    for folder in folders:
        root = Path(folder)
        if not root.is_dir():
            raise ValueError(
                f"{folder} is no folder: name one that `slm-math eval` or `slm-math fit` wrote"
            )
        if (root / RECORDS).is_file():
            found.append((str(root.resolve().parent), root.resolve().name, root))
        elif agents := evaluations(root):
            found += [(folder, *item) for item in agents.items()]
        elif stages := _stages(root / "eval"):
            found += [(folder, *item) for item in evaluations(stages[-1]).items()]
            courses.append((folder, stages))
            rewards += _rewards(root)
        else:
            raise ValueError(
                f"{folder} holds no evaluation: no {RECORDS}, */{RECORDS} or eval/*/*/{RECORDS}"
            )
    names = _names(
        [(*Path(folder).resolve().parts, *agent.split("/")) for folder, agent, _ in found]
    )
    named = {path: name for name, (_, _, path) in zip(names, found)}
    curves = [curve for folder, stages in courses for curve in _curves(folder, stages, named)]
    runs = _numbered([_run(name, path) for path, name in named.items()])
    return Material(tuple(runs), tuple(curves), tuple(rewards))


def _names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The agents' names; with as much of their folders before them as tells them apart."""
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path in paths if paths.count(path) > 1)
    raise ValueError(f"the same evaluation is named twice: {Path(*twice)}")


def _numbered(runs: Sequence[Run]) -> list[Run]:
    """The runs with their `data`; a partial one belongs to the first that has all
    of its problems.
    """
    problems = [frozenset(str(row["id"]) for row in run.records) for run in runs]
    whole = [ids for run, ids in zip(runs, problems) if not run.partial]
    meant = [
        next((other for other in whole if ids <= other), ids) if run.partial else ids
        for run, ids in zip(runs, problems)
    ]
    known = list(dict.fromkeys(meant))
    return [replace(run, data=known.index(ids)) for run, ids in zip(runs, meant)]


def _stages(folder: Path) -> list[Path]:
    """The folders of a training's evaluations, in the order of training; others (test, validate)
    come first.
    """

    def order(path: Path) -> tuple[int, int]:
        step, epoch = _STEP.fullmatch(path.name), _EPOCH.fullmatch(path.name)
        if epoch:
            return 3, int(epoch[1])
        return (2, int(step[1])) if step else (int(path.name == "start"), 0)

    return sorted((path for path in folder.glob("*") if evaluations(path)), key=order)


def _curves(folder: str, stages: Sequence[Path], named: Mapping[Path, str]) -> list[Curve]:
    curves = []
    for unit, pattern, first in (("epochs", _EPOCH, 1), ("steps", _STEP, 0)):
        at = {path: int(m[1]) + first for path in stages if (m := pattern.fullmatch(path.name))}
        if not at:
            continue
        at |= {path: 0 for path in stages if path.name == "start"}
        places = sorted(at.items(), key=lambda item: item[1])
        for agent in sorted({name for stage in at for name in evaluations(stage)}):
            files = [(x, stage / agent / RECORDS) for stage, x in places]
            points = tuple(
                (x, summarise(map(complete, read_records(file))))
                for x, file in files
                if file.is_file()
            )
            if len(points) > 1:
                name = named.get(stages[-1] / agent, f"{Path(folder).resolve().name}/{agent}")
                curves.append(Curve(name, unit, points))
    return curves


def _rewards(root: Path) -> list[Reward]:
    """`train/reward` of the newest log that has it."""
    for file in sorted(
        root.glob("logs/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime, reverse=True
    ):
        with file.open(encoding="utf-8", newline="") as lines:
            rows = [(row.get("step"), row.get("train/reward")) for row in csv.DictReader(lines)]
        points = [(int(float(step)), float(reward)) for step, reward in rows if step and reward]
        points = [(step, reward) for step, reward in points if math.isfinite(reward)]
        if len(points) > 1:
            return [Reward(root.resolve().name, tuple(points))]
    return []


def _run(name: str, folder: Path) -> Run:
    records = [complete(row) for row in read_records(folder / RECORDS)]
    return Run(name, folder, records, read_manifest(folder), summarise(records))


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """A record with all that statistics read, as older ones and those of other programs may lack
    some of it.
    """
    events = [
        event for event in row.get("events") or () if isinstance(event, dict) and "kind" in event
    ]
    tags = row.get("tags")
    rewarded = {"rewards", "parts"} if not isinstance(row.get("parts"), dict) else set()
    return {
        "problem": "",
        "gold": None,
        "answer": None,
        **{name: value for name, value in row.items() if name not in rewarded},
        "correct": row.get("correct") is True,
        "reason": str(row.get("reason") or ""),
        "error": row.get("error"),
        "seconds": _number(row.get("seconds")),
        "tags": {str(k): str(v) for k, v in tags.items()} if isinstance(tags, dict) else {},
        "events": [_event(event) for event in events],
    }


def _event(event: dict[str, Any]) -> dict[str, Any]:
    if event["kind"] == "turn":
        told = {"role": "", "prompt": [], "reply": "", "finish": "stop"} | event
        return told | {
            "tokens": _number(event.get("tokens")),
            "seconds": _number(event.get("seconds")),
        }
    if event["kind"] == "run":
        told = (
            {"code": "", "output": ""} | event | {"error_type": str(event.get("error_type") or "")}
        )
        marks = {"ok": event.get("ok") is True, "timed_out": event.get("timed_out") is True}
        return told | marks | {"seconds": _number(event.get("seconds"))}
    text, branch = event.get("text"), event.get("branch")
    told = {k: v for k, v in event.items() if k != "branch"} | (
        {"branch": branch} if isinstance(branch, list) else {}
    )
    told |= {"note": str(event.get("note") or ""), "text": text if text is None else str(text)}
    graded = (
        {"correct": event.get("correct") is True} if told["note"] in ("draft", "candidate") else {}
    )
    return (
        told | graded | ({"value": _number(event.get("value"))} if told["note"] == "vote" else {})
    )


def _number(value: Any) -> float:
    """A number of a record; 0 for null, which stands for what JSON has no number for."""
    return value if isinstance(value, int | float) and math.isfinite(value) else 0
