"""A program is the solution: its output is the answer."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.coding import has_whole_program, program, program_answer
from slm_math.agents.replies import is_usable
from slm_math.prompts import Prompt
from slm_math.types import Generate, Problem, Run, Workflow


@dataclass(frozen=True)
class CodeAsAnswer(Agent):
    """Asks for a program, whose output is the answer.

    The answer is the value of the program's last expression, else the last line that it printed
    (see `program_answer`). A reply without a program, and a program
    that is truncated, fails or prints nothing, give no answer.
    """

    uses_python = True

    prompt: Prompt = Prompt("code", "problem")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(problem.ask(self.prompt))]
        request = program(reply.text)
        if not (yield from is_usable(reply, has_whole_program)) or request is None:
            return None
        [result] = yield [request]
        return program_answer(Run(request.code, result))
