"""One pass: ask, read the answer."""

from __future__ import annotations

from slm_math.agents.base import Agent
from slm_math.answers import extract
from slm_math.prompts import render
from slm_math.types import Generate, Problem, Workflow, user


class SingleShot(Agent):
    """Asks once. `prompt` is a template name or a text file with a `{problem}` slot."""

    def __init__(self, prompt: str = "solve", temperature: float | None = None) -> None:
        self.prompt = prompt
        self.temperature = temperature
        render(prompt, problem="")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        [reply] = yield [Generate(chat, temperature=self.temperature)]
        return extract(reply.text).value
