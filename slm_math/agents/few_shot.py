"""Worked examples before every request of an agent's solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from slm_math.agents.base import Agent, rewritten
from slm_math.prompts import Prompt
from slm_math.types import Chat, Effect, Generate, Problem, Task, Workflow, assistant


@dataclass(frozen=True)
class FewShot(Agent):
    """Another agent, whose solver first sees worked problems.

    Each example is shown with the agent's own `prompt`, before every request of the solver.

    Args:
        agent: an agent with a field `prompt`.
        examples: problems of a training split, with solutions.
    """

    agent: Agent
    examples: Sequence[Task]
    _examples_chat: Chat = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unsolved = [task.problem.id for task in self.examples if not task.solution]
        if unsolved:
            raise ValueError(
                f"FewShot needs examples with solutions; {', '.join(unsolved[:3])} has none"
            )
        prompt = getattr(self.agent, "prompt", None)
        if not isinstance(prompt, Prompt):
            raise ValueError(
                f"{type(self.agent).__name__} has no prompt of its own to show worked problems with"
            )
        chat: Chat = ()
        for task in self.examples:
            chat += task.problem.ask(prompt) + assistant(task.solution or task.gold)
        self.derive(
            examples=tuple(self.examples),
            prompt=prompt,
            roles=self.agent.roles,
            uses_python=self.agent.uses_python,
            _examples_chat=chat,
        )

    def solve(self, problem: Problem) -> Workflow[str | None]:
        return (yield from rewritten(self.agent.solve(problem), self.with_examples))

    def with_examples(self, effect: Effect) -> Effect:
        """A request of the solver with the examples in front of its chat; other effects stay as
        they are.
        """
        if isinstance(effect, Generate) and effect.role == self.roles[0]:
            return replace(effect, chat=self._examples_chat + effect.chat)
        return effect
