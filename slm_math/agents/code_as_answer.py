"""A program is the solution: what it prints is the answer."""

from __future__ import annotations

from slm_math.agents.base import Agent, heard
from slm_math.agents.coding import printed, program, written
from slm_math.prompts import render
from slm_math.types import Generate, Problem, Workflow, user


class CodeAsAnswer(Agent):
    """Asks for a program and runs it. The value of its last expression, else its last printed line,
    is the answer.

    No program, or one that was cut off, fails or prints nothing, is no answer.
    """

    uses_python = True

    def __init__(self, prompt: str = "code") -> None:
        self.prompt = prompt
        self.takes("problem", "prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        [reply] = yield [Generate(user(render(self.prompt, problem=problem.text), problem.images))]
        request = program(reply.text)
        if not (yield from heard(reply, written)) or request is None:
            return None
        [result] = yield [request]
        return printed(result)
