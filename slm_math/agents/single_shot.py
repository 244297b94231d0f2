"""One pass: ask, read the answer."""

from __future__ import annotations

from slm_math.agents.base import Agent, heard
from slm_math.answers import extract
from slm_math.prompts import render
from slm_math.types import Generate, Problem, Workflow, user


class SingleShot(Agent):
    """Asks once.

    Args:
        prompt: template name, or a text file with a `{problem}` slot.
        temperature: instead of the role's default.
        not_first: strings with which the reply may not begin: the control that forces a model to
            reason first.
        last_number: accept the last number of a reply that states no answer (for models that know
            no format).
    """

    def __init__(
        self,
        prompt: str = "solve",
        temperature: float | None = None,
        not_first: tuple[str, ...] | None = None,
        last_number: bool = False,
    ) -> None:
        self.prompt = prompt
        self.temperature = temperature
        self.not_first = not_first
        self.last_number = last_number
        self.takes("problem", "prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        [reply] = yield [Generate(chat, temperature=self.temperature, not_first=self.not_first)]
        yield from heard(reply)
        return extract(reply.text, self.last_number).value
