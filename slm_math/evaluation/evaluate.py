"""Evaluation: an agent meets problems, its traces are graded and written down as they finish."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math.agents import Agent
from slm_math.answers import grader_version
from slm_math.engines.base import Engine
from slm_math.evaluation.metrics import Summary, summarise
from slm_math.evaluation.records import RecordFile, data_hash, write_json
from slm_math.prompts import load
from slm_math.rollout.record import record
from slm_math.rollout.scheduler import Rollouts, Sandbox
from slm_math.types import Sampling, Task, Trace


def describe(agent: Agent) -> dict[str, Any]:
    """An agent as data: its class, its settings, and for a prompt also what the template says."""
    data: dict[str, Any] = {"class": type(agent).__name__}
    for name, value in vars(agent).items():
        if name.startswith("_"):
            continue
        data[name] = describe(value) if isinstance(value, Agent) else value
        if name.endswith("prompt") and isinstance(value, str):
            data[f"{name}_hash"] = hashlib.blake2b(load(value).encode(), digest_size=8).hexdigest()
    return data


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
    set_aside: bool = False,
    recorded: Callable[[Task, Trace], dict[str, Any]] = record,
    about: Mapping[str, Any] | None = None,
) -> Summary:
    """Runs `agent` `samples` times on every task, writing `folder`/records.jsonl, manifest.json and summary.json.

    What the folder already holds of the same evaluation is kept and not run again. An interrupted one leaves a summary
    of what there is, marked partial.

    Args:
        identity: what else makes this evaluation what it is (the weights under training).
        watch: called after every record with (done, total, records so far).
        recorded: makes the record of a trace (under training one with rewards).
        set_aside: another evaluation in the folder is moved out of the way; otherwise it is an error.
        about: what else belongs into the manifest (the whole configuration); it may differ when a run goes on.
    """
    by_id = {task.problem.id: task for task in tasks}
    if len(by_id) < len(tasks):
        raise ValueError("two problems of the evaluation have the same id")
    me = {
        "agent": describe(agent),
        "grader": grader_version(),
        "data": data_hash(list(tasks)),
        "problems": len(tasks),
        "samples": samples,
        "seed": seed,
        "sampling": {role: vars(values) for role, values in sampling.items()},
        "engines": {role: engine.identity() for role, engine in sorted(engines.items())},
        **({"sandbox": sandbox.identity()} if agent.uses_python and sandbox is not None else {}),
        **(identity or {}),
    }
    file = RecordFile(folder, me, set_aside, about)
    done = file.done
    jobs = [(task.problem, s) for task in tasks for s in range(samples) if (task.problem.id, s) not in done]
    total = len(tasks) * samples
    distinct = {id(engine): engine for engine in engines.values()}.values()
    before = [engine.usage() for engine in distinct]
    finished = False
    try:
        for trace in Rollouts(agent, engines, sampling, sandbox, ("eval", seed)).run(jobs):
            file.add(recorded(by_id[trace.problem.id], trace))
            if watch is not None:
                watch(len(file.records), total, file.records)
        finished = True
    finally:
        file.close(finished)
        summary = summarise(file.records, expected=total)
        used = [occupancy(old, engine.usage()) for old, engine in zip(before, distinct)]
        decoding = {"decoding": [values for values in used if values]}
        write_json(folder / "summary.json", summary.values() | {"partial": not finished} | decoding)
    return summary


def occupancy(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, float]:
    """What an engine did in between (see `Engine.usage`), and the share of its slots that had a token to sample in its
    decode steps (`occupancy`); {} when it did nothing or does not tell."""
    steps = after.get("steps", 0) - before.get("steps", 0)
    if not steps:
        return {}
    done = {name: after[name] - before[name] for name in after if name != "slots"}
    return done | {"slots": after["slots"], "occupancy": done["tokens"] / (steps * after["slots"])}
