"""What answers the requests of one agent, from the options of a command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slm_math.agents import Agent
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.evaluation.preparing import add_local, check_serving
from slm_math.rollout.collect import check_agents
from slm_math.rollout.executors import Executors
from slm_math.sandbox import RemoteSandbox, Sandbox
from slm_math.types import Problem, Task


@dataclass(frozen=True)
class Serving:
    """The options of `slm-math eval` that say who answers: see there."""

    model: str | dict[str, str] | None
    engines: dict[str, Engine] | None
    inference: Inference
    dtype: str
    template: tuple[str | None, dict[str, Any] | None]
    torch_threads: int | None
    sandbox: Sandbox | RemoteSandbox | None

    @contextlib.contextmanager
    def executors(self, agent: Agent, problem: Problem) -> Iterator[Executors]:
        """Engines for all roles of an agent, and a sandbox if it runs programs; they are closed at
        the end. What is said of them goes to stderr.

        Raises ValueError for what cannot serve the agent, and if it refuses the problem, before a
        model is loaded; SandboxError where no sandbox confines programs.
        """
        serving, sandbox = dict(self.engines or {}), self.sandbox
        models = check_serving(agent.roles, self.model, serving, self.inference)
        check_agents({type(agent).__name__: agent}, [Task(problem, "")])
        try:
            if agent.uses_python:
                sandbox = sandbox or Sandbox()
                sandbox.start()
            with contextlib.redirect_stdout(sys.stderr):
                add_local(
                    serving,
                    agent.roles,
                    models,
                    inference=self.inference,
                    dtype=self.dtype,
                    template=self.template,
                    torch_threads=self.torch_threads,
                )
            sampling = self.inference.by_role()
            yield Executors(serving, sampling, sandbox, self.inference.deterministic)
        finally:
            if sandbox is not None:
                sandbox.close()
            for engine in serving.values():
                engine.close()
