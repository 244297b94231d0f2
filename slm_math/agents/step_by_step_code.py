"""Short steps, each with a program, until the answer is clear."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.coding import reply_with_tools
from slm_math.agents.replies import stated_answer
from slm_math.prompts import Prompt
from slm_math.types import Problem, Workflow


@dataclass(frozen=True)
class StepByStepCode(Agent):
    """Solves in short steps, each with a program.

    Up to `steps` steps; later programs see what earlier ones defined. A reply without a program, or
    the reply after the last step, gives the answer.
    """

    uses_python = True
    minimums = {"steps": 1}

    steps: int = 8
    prompt: Prompt = Prompt("steps", "problem")
    step_prompt: Prompt = Prompt("step_output", "output")
    output_prompt: Prompt = Prompt("output", "output")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        _, reply = yield from reply_with_tools(
            problem.ask(self.prompt), self.step_prompt, self.steps, last_prompt=self.output_prompt
        )
        return None if reply is None else stated_answer(reply.text, problem.answer_type)
