"""Short steps, each with a program, until the answer is clear."""

from __future__ import annotations

from slm_math.agents.base import Agent, stated
from slm_math.agents.coding import work
from slm_math.prompts import render
from slm_math.types import Problem, Workflow, user


class StepByStepCode(Agent):
    """Up to `steps` short steps, each a reply with a program; later ones see what earlier ones
    defined.

    A reply without a program, or the one after the last step, gives the answer.
    """

    uses_python = True

    def __init__(
        self,
        steps: int = 8,
        prompt: str = "steps",
        step_prompt: str = "step_output",
        output_prompt: str = "output",
    ) -> None:
        if steps < 1:
            raise ValueError(f"StepByStepCode needs steps >= 1, got {steps}")
        self.steps = steps
        self.prompt = prompt
        self.step_prompt = step_prompt
        self.output_prompt = output_prompt
        self.takes("problem", "prompt")
        self.takes("output", "step_prompt", "output_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        _, reply = yield from work(
            chat, self.step_prompt, self.steps, last_prompt=self.output_prompt
        )
        return None if reply is None else stated(reply.text)
