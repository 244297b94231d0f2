"""Reads folders of evaluations and of training runs for a report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from slm_math.evaluation.clusters import clustered, units_lines
from slm_math.evaluation.controls import Arms, read_arms
from slm_math.evaluation.naming import names_of
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import Summary, read_samples, summarize
from slm_math.records.eval_folders import (
    BLIND,
    RECORDS,
    TWINS,
    add_distinct,
    beside,
    control_arms,
    evaluation_folders,
    named_runs,
    of_one_run,
    training_stages,
)
from slm_math.records.files import read_manifest
from slm_math.records.run_folder import read_run
from slm_math.report.rewards import TrainingCurve, training_curves

_EPOCH = re.compile(r"epoch-(\d+)")
_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class AgentRun:
    """The evaluation of one agent on one set of problems; runs on the same problems have the same
    number `data`. `control` is its blind control, and `twins` the evaluation of unseen
    twins, if there are some. `cluster` is what the user named as units, if anything.
    """

    name: str
    folder: Path
    samples: Samples = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    summary: Summary = field(repr=False)
    data: int = 0
    control: AgentRun | None = field(default=None, repr=False)
    twins: AgentRun | None = field(default=None, repr=False)
    cluster: str | None = None

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
class Material:
    """Everything that a report is made from."""

    runs: tuple[AgentRun, ...]
    curves: tuple[AccuracyCurve, ...] = ()
    training: tuple[TrainingCurve, ...] = ()
    shares: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # run -> part -> counts
    arms: Mapping[str, Arms] = field(default_factory=dict)  # run -> what its control arms say
    notes: tuple[str, ...] = ()  # what is not shown, and why


def load(folders: Sequence[str] | Mapping[str, Path], cluster: str | None = None) -> Material:
    """Reads output folders of evaluations, folders of agents, folders of training runs, and folders
    that hold several of these; what a mapping names may have other names than their paths.
    `cluster` says what the units of intervals and tests are, as in `clustered`.

    Raises ValueError naming a folder that is none of these, or that is named twice.
    """
    if not folders:
        raise ValueError(
            "report needs at least one folder of `slm-math eval`, or of a training run"
        )
    if isinstance(folders, Mapping):
        places = dict(folders)
    else:
        places = {}
        for run in (run for folder in folders for run in named_runs(folder)):
            add_distinct(places, run)
    paths = [places[folder].resolve() for folder in places]
    twice = next((folder for folder, path in zip(places, paths) if paths.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is named twice: name each folder once")
    agents: list[tuple[str, str, Path]] = []  # (folder as named, agent, its folder)
    trainings: list[tuple[str, list[Path]]] = []  # (folder, its evaluations in order)
    training: list[TrainingCurve] = []
    shares: dict[str, Mapping[str, Any]] = {}
    arms: dict[str, Arms] = {}
    notes: list[str] = []
    for folder, root in places.items():
        if (root / RECORDS).is_file():
            agents.append((str(root.resolve().parent), root.resolve().name, root))
        elif evaluated := training_stages(root):
            evaluated, told = of_one_run(root, evaluated)
            agents += [(folder, *item) for item in evaluation_folders(evaluated[-1]).items()]
            trainings.append((folder, evaluated))
            if control_arms(root):
                arms[folder] = read_arms(root, cluster)
            own_curves, reason = training_curves(root)
            if isinstance(parts := read_run(root).get("shares"), dict):
                shares[folder] = parts
            training += own_curves
            notes += told + reason
        else:
            agents += [(folder, *item) for item in evaluation_folders(root).items()]
    paths = [Path(folder).resolve() / agent for folder, agent, _ in agents]
    if again := next((path for path in paths if paths.count(path) > 1), None):
        raise ValueError(f"the same evaluation is named twice: {again}")
    names = names_of(paths)
    named = {path: name for name, (_, _, path) in zip(names, agents)}
    curves = [
        curve
        for folder, evaluated in trainings
        for curve in _accuracy_curves(folder, evaluated, named, cluster)
    ]
    found = [_read(name, path, cluster) for path, name in named.items()]
    runs = _numbered(_with_controls(found))
    notes += dict.fromkeys(line for run in runs for line in units_lines(run.samples))
    return Material(
        tuple(runs), tuple(curves), tuple(training), shares=shares, arms=arms, notes=tuple(notes)
    )


def _with_controls(runs: Sequence[AgentRun]) -> list[AgentRun]:
    """The runs, each with its blind control and its twins, which are no runs of their own then."""
    by_folder = {run.folder.resolve(): run for run in runs}
    both = {
        path: [by_folder.get(beside(path, end)) for end in (BLIND, TWINS)] for path in by_folder
    }
    taken = {run.folder for some in both.values() for run in some if run is not None}
    return [
        replace(run, control=both[path][0], twins=both[path][1])
        for path, run in by_folder.items()
        if run.folder not in taken
    ]


def _numbered(runs: Sequence[AgentRun]) -> list[AgentRun]:
    """The runs with their `data`; a partial run belongs to the first complete one that has all its
    problems. Blind controls, and twins, of runs on the same problems have a number of their own.
    """
    problems = [run.samples.tables.problems.digests() for run in runs]
    complete = [ids for run, ids in zip(runs, problems) if not run.partial]
    sets = [
        next((other for other in complete if np.isin(ids, other).all()), ids)
        if run.partial
        else ids
        for run, ids in zip(runs, problems)
    ]
    numbers = list(dict.fromkeys(map(bytes, sets)))
    numbered = [replace(run, data=numbers.index(bytes(ids))) for run, ids in zip(runs, sets)]
    return [
        replace(
            run,
            control=run.control and replace(run.control, data=-1 - run.data),
            twins=run.twins and replace(run.twins, data=len(numbers) + run.data),
        )
        for run in numbered
    ]


def _accuracy_curves(
    folder: str, stages: Sequence[Path], named: Mapping[Path, str], cluster: str | None
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
                (x, summarize(clustered(read_samples(file.parent), cluster)))
                for x, file in files
                if file.is_file()
            )
            if len(points) > 1:
                name = named.get(stages[-1] / agent, f"{Path(folder).resolve().name}/{agent}")
                curves.append(AccuracyCurve(name, unit, points))
    return curves


def _read(name: str, folder: Path, cluster: str | None) -> AgentRun:
    samples = clustered(read_samples(folder), cluster)
    return AgentRun(
        name,
        folder,
        samples=samples,
        manifest=read_manifest(folder),
        summary=summarize(samples),
        cluster=cluster,
    )
