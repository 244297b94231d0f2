"""Evaluation: an agent meets problems, its traces are graded and written down as they finish."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math import agents
from slm_math.agents import Agent
from slm_math.answers import grader_version
from slm_math.engines.base import Engine
from slm_math.metrics.summary import Summary, summarise
from slm_math.prompts import load
from slm_math.records.files import RecordFile, data_hash, write_json
from slm_math.records.record import record
from slm_math.rollout.collect import Draws, run_agent
from slm_math.rollout.executors import Executors, Sandbox
from slm_math.types import Sampling, Task, Trace


def check_names(names: Iterable[str], what: str) -> None:
    """Raises ValueError for names that cannot be folders of results."""
    for name in names:
        if not re.fullmatch(r"\w[\w.-]*", name) or re.search(r"^rank-\d+$|\.replaced-\d+$", name):
            raise ValueError(
                f"{what} {name!r}: a name is made of letters, digits, _, - and ., and begins with "
                f"none of -."
            )


def describe(agent: Agent) -> dict[str, Any]:
    """An agent as data: its class and the code of it, its settings, and for a prompt also what the
    template says.
    """
    kind = type(agent)
    data: dict[str, Any] = {"class": f"{kind.__module__}.{kind.__qualname__}", "code": _code(kind)}
    for name, value in vars(agent).items():
        if name.startswith("_"):
            continue
        data[name] = _plain(value)
        if name.endswith("prompt") and isinstance(value, str):
            data[f"{name}_hash"] = _hash(load(value))
    return data


def _plain(value: Any) -> Any:
    """A setting as data that is the same in every process."""
    if isinstance(value, Agent):
        return describe(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    kind = type(value)
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        **_plain(getattr(value, "__dict__", {})),
    }


def _code(kind: type) -> str | None:
    """A hash of the code behind an agent: all of our agents, and the modules of its own classes.

    None where it has no source (defined in a shell).
    """
    ours = sorted(Path(agents.__file__).parent.glob("*.py"))
    texts = [file.read_text(encoding="utf-8") for file in ours]
    own = {
        c.__module__
        for c in kind.__mro__
        if c is not object and not c.__module__.startswith(agents.__name__)
    }
    try:
        texts += [inspect.getsource(sys.modules[name]) for name in sorted(own)]
    except (OSError, TypeError, KeyError):
        return None
    return _hash("\n".join(texts))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


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
    """Runs `agent` `samples` times on every task, writing `folder`/records.jsonl, manifest.json and
    summary.json.

    What the folder already holds of the same evaluation is kept and not run again. An interrupted
    one leaves a summary of what there is, marked partial.

    Args:
        identity: what else makes this evaluation what it is (the weights under training).
        watch: called after every record with (done, total, records so far).
        recorded: makes the record of a trace (under training one with rewards).
        set_aside: another evaluation in the folder is moved out of the way; otherwise it is an
            error.
        about: what else belongs into the manifest (the whole configuration); it may differ when a
            run goes on.
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
    file.check({(task.problem.id, sample) for task in tasks for sample in range(samples)})
    done = file.done
    jobs = [
        (task.problem, s)
        for task in tasks
        for s in range(samples)
        if (task.problem.id, s) not in done
    ]
    total = len(tasks) * samples
    if not jobs and file.finished:
        file.close(None)
        return summarise(file.records)
    distinct = {id(engine): engine for engine in engines.values()}.values()
    before = [engine.usage() for engine in distinct]
    finished = False
    try:
        executors = Executors(engines, sampling, sandbox)
        for trace in run_agent(agent, jobs, executors, Draws(("eval", seed))):
            file.add(recorded(by_id[trace.problem.id], trace))
            if watch is not None:
                watch(len(file.records), total, file.records)
        finished = True
    finally:
        used = [occupancy(old, engine.usage()) for old, engine in zip(before, distinct)]
        file.close(finished, [values for values in used if values])
        summary = summarise(file.records, expected=total)
        write_json(folder / "summary.json", summary.data() | {"partial": not finished})
    return summary


def occupancy(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, float]:
    """What an engine did in between (see `Engine.usage`), and the share of its slots that had a
    token to sample in its decode steps (`occupancy`); {} when it did nothing or does not tell."""
    steps = after.get("steps", 0) - before.get("steps", 0)
    if not steps:
        return {}
    done = {name: after[name] - before[name] for name in after if name != "slots"}
    return done | {"slots": after["slots"], "occupancy": done["tokens"] / (steps * after["slots"])}
