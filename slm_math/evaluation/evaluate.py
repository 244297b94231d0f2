"""Evaluation: an agent solves problems, its traces are graded and written down as they finish."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from slm_math.agents import Agent
from slm_math.answers import grader_version
from slm_math.answers.graded import GradedTrace
from slm_math.evaluation.identity import describe
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import Summary, summarize
from slm_math.records.eval_folders import BESIDE
from slm_math.records.files import RecordFile, data_hash, data_hash_by_id, write_json
from slm_math.records.record import Record, record
from slm_math.rollout.collect import Draws, collect
from slm_math.rollout.executors import Executors
from slm_math.types import Task

# called after every record with all records so far, which are read from their file except the last
# one, and the number of samples of the evaluation
Progress: TypeAlias = Callable[[Sequence[Record], int], None]


@dataclass(frozen=True)
class Plan:
    """What is evaluated: `samples` workflows of an agent on every task; `seed` is that of the
    sampling. The workflows of the first `pilot` tasks end before the others begin.

    Raises ValueError if two problems have the same id.
    """

    agent: Agent
    tasks: Sequence[Task]
    samples: int = 1
    seed: int = 0
    pilot: int = 0

    def __post_init__(self) -> None:
        if len({task.problem.id for task in self.tasks}) < len(self.tasks):
            raise ValueError("two problems of the evaluation have the same id")

    def jobs(self) -> list[tuple[Task, int]]:
        """Every task with every sample number."""
        return [(task, sample) for task in self.tasks for sample in range(self.samples)]

    def identity(self, executors: Executors) -> dict[str, Any]:
        """What must be equal for two evaluations to be the same one."""
        sandbox = executors.sandbox if self.agent.uses_python else None
        return {
            "agent": describe(self.agent),
            "grader": grader_version(),
            "data": data_hash(list(self.tasks)),
            "problems": len(self.tasks),
            "samples": self.samples,
            "seed": self.seed,
            "sampling": {role: vars(values) for role, values in executors.sampling.items()},
            "engines": {
                role: engine.identity() for role, engine in sorted(executors.engines.items())
            },
            **({"sandbox": sandbox.identity()} if sandbox is not None else {}),
        }


@dataclass(frozen=True)
class Output:
    """Where an evaluation is written.

    Args:
        folder: gets records.jsonl, manifest.json and summary.json.
        identity: what identifies this evaluation besides its plan (the weights in training).
        about: more for the manifest (the whole configuration); it may change when an evaluation
            is resumed.
        set_aside: rename the folder if it holds another evaluation; by default that is an error.
    """

    folder: Path
    identity: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    set_aside: bool = False


class Recorder:
    """Makes the records of an evaluation. A subclass may add to them what takes longer, such as
    rewards that ask a model.
    """

    def record(self, graded: GradedTrace) -> Record:
        """The record of a finished workflow, which is written at once."""
        return record(graded)

    def is_complete(self, record: Record) -> bool:
        """Whether a record that an interrupted evaluation left needs nothing more. The workflow of
        an incomplete one runs again; the record stays if that breaks.
        """
        return True

    def complete(self, records: Sequence[Record]) -> Iterable[Record]:
        """All records of the evaluation with everything in them, before it counts as finished;
        `records` itself if nothing is missing.
        """
        return records


@dataclass(frozen=True)
class Evaluation:
    """The records of a finished evaluation, in its file, what metrics need of them, and their
    summary.
    """

    records: Sequence[Record]
    samples: Samples
    summary: Summary


def evaluate(
    plan: Plan,
    executors: Executors,
    output: Output,
    recorder: Recorder = Recorder(),
    progress: Progress | None = None,
    window: int = Draws.window,
) -> Evaluation:
    """Runs the agent of a plan on its tasks and writes every record when its workflow ends.

    Samples that the folder holds already, of the same evaluation, are not run again. An interrupted
    evaluation leaves a summary of what it has, marked as partial.

    Args:
        plan: agent, tasks, samples, seed.
        executors: engines, decoding defaults and sandbox.
        output: the folder, and what its manifest says.
        recorder: makes the records (in training with rewards).
        progress: called after every record with (records so far, samples in all).
        window: workflows under way at once.

    Raises ValueError if the folder cannot be used (see `RecordFile`).
    """
    jobs = plan.jobs()
    identity = plan.identity(executors) | dict(output.identity)
    about = {**output.about, "data_by_id": data_hash_by_id(plan.tasks)}
    file = RecordFile(output.folder, identity, output.set_aside, about)
    if not file.finished:
        file.set_apart(recorder.is_complete)
    file.check({(task.problem.id, sample) for task, sample in jobs})
    missing = [job for job in jobs if (job[0].problem.id, job[1]) not in file.records]

    def evaluation() -> Evaluation:
        samples, uses_python = Samples.of(file.records), plan.agent.uses_python
        summary = summarize(samples, expected=len(jobs), uses_python=uses_python)
        return Evaluation(file.records, samples, summary)

    if not missing and file.finished:
        file.close(None)
        return evaluation()

    def add(graded: GradedTrace) -> None:
        file.add(recorder.record(graded))
        if progress is not None:
            progress(file.records, len(jobs))

    engines = {id(engine): engine for engine in executors.engines.values()}.values()
    usage = [engine.usage() for engine in engines]
    draws = Draws(key=("eval", plan.seed), window=window)
    first = {task.problem.id for task in plan.tasks[: plan.pilot]}
    pilot = [job for job in missing if job[0].problem.id in first]
    rest = [job for job in missing if job[0].problem.id not in first]
    finished = False
    try:
        for part in filter(None, (pilot, rest)):
            collect(plan.agent, part, executors=executors, sink=add, draws=draws)
        file.replace(recorder.complete(file.records))
        finished = True
    finally:
        decoding = [occupancy(before, engine.usage()) for before, engine in zip(usage, engines)]
        file.close(finished, [values for values in decoding if values])
        result = evaluation()
        data = result.summary.to_json() | {"partial": not finished}
        write_json(output.folder / "summary.json", data)
    return result


def occupancy(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, float]:
    """What an engine did between two readings of `Engine.usage`, and `occupancy`: the share of
    slots that sampled a token, over all decode steps. {} if it made no step or does not report
    usage.
    """
    steps = after.get("steps", 0) - before.get("steps", 0)
    if not steps:
        return {}
    done: dict[str, float] = {name: after[name] - before[name] for name in after if name != "slots"}
    return done | {"slots": after["slots"], "occupancy": done["tokens"] / (steps * after["slots"])}


def check_names(names: Iterable[str], what: str) -> None:
    """Raises ValueError for names that cannot be folders of results."""
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(
                f"{what} {name!r}: a name may contain letters, digits, '_', '-' and '.', and must "
                "not start with '-' or '.'"
            )
        if re.search(r"^rank-\d+$|\.replaced-\d+$", name) or name.endswith(BESIDE):
            raise ValueError(
                f"{what} {name!r}: names such as rank-0, x.replaced-1, "
                f"{' and '.join('x' + end for end in BESIDE)} are reserved "
                "for parts of evaluations: choose another name"
            )
