"""One pass: ask, read the answer."""

from __future__ import annotations

from slm_math.agents.base import Agent
from slm_math.answers import extract
from slm_math.prompts import render
from slm_math.types import Generate, Problem, Workflow, user


class SingleShot(Agent):
    """Asks once. `prompt` is a template name or a text file with a `{problem}` slot.

    `not_first` names strings with which the reply may not begin: the control that forces a model to reason first.
    """

    def __init__(
        self, prompt: str = "solve", temperature: float | None = None, not_first: tuple[str, ...] | None = None
    ) -> None:
        self.prompt = prompt
        self.temperature = temperature
        self.not_first = not_first
        render(prompt, problem="")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        [reply] = yield [Generate(chat, temperature=self.temperature, not_first=self.not_first)]
        return extract(reply.text).value
