"""What makes an agent what it is, as data: if it is equal, two evaluations ran the same agent."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_math import agents
from slm_math.agents import Agent
from slm_math.prompts import load
from slm_math.records.files import data_hash
from slm_math.types import Task


def describe(agent: Agent) -> dict[str, Any]:
    """An agent as data: its class, a hash of its code, its settings, and for each prompt also a
    hash of the template. Of worked examples only their number and a hash are in it, as they
    contain reference answers.
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
        if value and all(isinstance(item, Task) for item in value):
            return _examples(value)
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


def _examples(tasks: Sequence[Task]) -> dict[str, Any]:
    """The number of worked examples, and a hash of all that they consist of, in order."""
    whole = json.dumps([data_hash(list(tasks)), [task.solution for task in tasks]])
    return {"count": len(tasks), "sha256": hashlib.sha256(whole.encode()).hexdigest()[:16]}


def _code(kind: type) -> str | None:
    """A hash of the source of an agent: the room of agents, and the modules of its own classes.

    None if a class has no source file (defined in a shell).
    """
    files = sorted(Path(agents.__file__).parent.glob("*.py"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    other_modules = {
        base.__module__
        for base in kind.__mro__
        if base is not object and not base.__module__.startswith(agents.__name__)
    }
    try:
        texts += [inspect.getsource(sys.modules[name]) for name in sorted(other_modules)]
    except (OSError, TypeError, KeyError):
        return None
    return _hash("\n".join(texts))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
