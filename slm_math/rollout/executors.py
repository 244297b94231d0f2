"""Who answers the requests of workflows: engines by role, and a sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from slm_math.engines.base import Engine
from slm_math.rollout.awaited import Executor
from slm_math.types import RunPython, Sampling


class ProgramExecutor(Executor, Protocol):
    """An executor that runs programs."""

    def submit(self, request: RunPython) -> int: ...

    def identity(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Executors:
    """Who answers which request.

    Args:
        engines: role -> engine; "default" serves the roles that have no engine of their own.
        sampling: role -> decoding defaults; "default" likewise.
        sandbox: runs the programs of workflows that use Python.
        deterministic: the same requests are decoded together in every run (see `Awaited`).
    """

    engines: Mapping[str, Engine]
    sampling: Mapping[str, Sampling]
    sandbox: ProgramExecutor | None = None
    deterministic: bool = False

    def engine(self, role: str) -> Engine:
        """The engine that serves a role."""
        return self.engines.get(role) or self.engines["default"]

    def defaults(self, role: str) -> Sampling:
        """How a role samples where its request does not say."""
        return self.sampling.get(role) or self.sampling["default"]

    def check(self, owner: str, roles: Iterable[str], uses_python: bool) -> None:
        """Raises ValueError when `owner` ("agent SingleShot") asks for an engine or a sandbox that
        does not exist.
        """
        for role in roles:
            if role not in self.engines and "default" not in self.engines:
                raise ValueError(f"{owner} asks for role {role!r}, and no engine serves this role")
        if uses_python and self.sandbox is None:
            raise ValueError(f"{owner} runs Python, and there is no sandbox")
