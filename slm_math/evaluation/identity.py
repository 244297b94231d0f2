"""What makes an agent what it is, as data: if it is equal, two evaluations ran the same agent."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slm_math import agents
from slm_math.agents import Agent
from slm_math.prompts import load


def describe(agent: Agent) -> dict[str, Any]:
    """An agent as data: its class, a hash of its code, its settings, and for each prompt also a
    hash of the template.
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
