"""One pass: ask, read the answer."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.replies import is_usable
from slm_math.answers import extract
from slm_math.prompts import Prompt
from slm_math.types import Generate, Problem, Workflow


@dataclass(frozen=True)
class SingleShot(Agent):
    """Asks once.

    Args:
        prompt: template name, or a text file with a `{problem}` slot.
        temperature: replaces the role's default.
        not_first: strings with which the reply may not begin: a control that makes a model reason
            first.
        last_number: accept the last number of a reply that states no answer (for models that know
            no answer format).
    """

    prompt: Prompt = Prompt("solve", "problem")
    temperature: float | None = None
    not_first: tuple[str, ...] | None = None
    last_number: bool = False

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = problem.ask(self.prompt)
        [reply] = yield [Generate(chat, temperature=self.temperature, not_first=self.not_first)]
        yield from is_usable(reply)
        return extract(reply.text, self.last_number, problem.answer_type).value
