"""Worked examples in front of whatever an agent asks its solver."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slm_math.agents.base import Agent
from slm_math.prompts import render
from slm_math.types import Effect, Generate, Problem, Task, Workflow, assistant, user


class FewShot(Agent):
    """Another agent, whose solver sees worked problems first, asked as the agent's own `prompt`
    asks.

    `examples` must come from a training split, and have solutions.
    """

    def __init__(self, agent: Agent, examples: Sequence[Task]) -> None:
        bare = [task.problem.id for task in examples if not task.solution]
        if bare:
            raise ValueError(f"examples must have solutions, and {', '.join(bare[:3])} has none")
        prompt = getattr(agent, "prompt", None)
        if not isinstance(prompt, str):
            raise ValueError(
                f"{type(agent).__name__} has no prompt of its own to show worked problems with"
            )
        self.agent, self.prompt = agent, prompt
        self.roles, self.uses_python = agent.roles, agent.uses_python
        self.examples = [task.problem.id for task in examples]
        texts = repr([(task.problem.text, task.solution) for task in examples])
        self.examples_hash = hashlib.blake2b(
            texts.encode("utf-8", "surrogatepass"), digest_size=8
        ).hexdigest()
        self._chat = tuple(
            message
            for task in examples
            for message in user(render(prompt, problem=task.problem.text), task.problem.images)
            + assistant(task.solution or task.gold)
        )

    def solve(self, problem: Problem) -> Workflow[str | None]:
        workflow = self.agent.solve(problem)
        results: list[Any] | None = None
        while True:
            try:
                effects = next(workflow) if results is None else workflow.send(results)
            except StopIteration as end:
                return end.value
            results = yield [self.shown(effect) for effect in effects]

    def shown(self, effect: Effect) -> Effect:
        if isinstance(effect, Generate) and effect.role == self.roles[0]:
            return replace(effect, chat=self._chat + effect.chat)
        return effect
