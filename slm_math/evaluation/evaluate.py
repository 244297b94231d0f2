"""Evaluation: an agent meets problems, its traces are graded and written down as they finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math.agents import Agent
from slm_math.engines.base import Engine
from slm_math.evaluation.metrics import Summary, summarise
from slm_math.evaluation.records import RecordFile, data_hash, record, write_json
from slm_math.rollout.scheduler import Rollouts, Sandbox
from slm_math.types import Sampling, Task


def describe(value: Any) -> Any:
    """An agent (or any plain object) as data: its class and its settings."""
    if isinstance(value, Agent):
        return {"class": type(value).__name__} | {name: describe(item) for name, item in vars(value).items()}
    return value


def evaluate(
    agent: Agent,
    tasks: Sequence[Task],
    engines: Mapping[str, Engine],
    sampling: Mapping[str, Sampling],
    folder: Path,
    sandbox: Sandbox | None = None,
    samples: int = 1,
    seed: int = 0,
    identity: Mapping[str, Any] | None = None,
    watch: Callable[[int, int, Sequence[Mapping[str, Any]]], None] | None = None,
) -> Summary:
    """Runs `agent` `samples` times on every task, writing `folder`/records.jsonl, manifest.json and summary.json.

    What the folder already holds of the same evaluation is kept and not run again.

    Args:
        identity: what else makes this evaluation what it is (the model).
        watch: called after every record with (done, total, records so far).
    """
    by_id = {task.problem.id: task for task in tasks}
    if len(by_id) < len(tasks):
        raise ValueError("two problems of the evaluation have the same id")
    me = {
        "agent": describe(agent),
        "data": data_hash(list(tasks)),
        "problems": len(tasks),
        "samples": samples,
        "seed": seed,
        "sampling": {role: vars(values) for role, values in sampling.items()},
        **(identity or {}),
    }
    file = RecordFile(folder, me)
    done = file.done
    jobs = [(task.problem, s) for task in tasks for s in range(samples) if (task.problem.id, s) not in done]
    total = len(tasks) * samples
    finished = False
    try:
        for trace in Rollouts(agent, engines, sampling, sandbox, ("eval", seed)).run(jobs):
            file.add(record(by_id[trace.problem.id], trace))
            if watch is not None:
                watch(len(file.records), total, file.records)
        finished = True
    finally:
        file.close(finished)
    summary = summarise(file.records)
    write_json(folder / "summary.json", summary.values())
    return summary
