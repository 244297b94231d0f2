"""Write a program, see what it prints, then answer."""

from __future__ import annotations

from slm_math.agents.base import Agent, draft, lost, stated
from slm_math.agents.coding import printed, program, written
from slm_math.prompts import render
from slm_math.types import Generate, Note, Problem, Workflow, assistant, user


class CodeFeedback(Agent):
    """First pass: reasoning with a Python program. The program runs, its output goes back, a second
    pass answers.

    The answer is what the model *writes* after it has seen the output. A first pass without a
    program is final. The first draft is what the first pass states, else what its program printed.
    """

    uses_python = True

    def __init__(self, prompt: str = "code", output_prompt: str = "output") -> None:
        self.prompt = prompt
        self.output_prompt = output_prompt
        self.takes("problem", "prompt")
        self.takes("output", "output_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        [first] = yield [Generate(chat)]
        request = program(first.text)
        if request is None or lost(first, written) is not None:
            return (yield from draft(first))
        [result] = yield [request]
        yield [Note("draft", stated(first.text) or printed(result))]
        chat += assistant(first) + user(render(self.output_prompt, output=result.text))
        [final] = yield [Generate(chat)]
        return (yield from draft(final))
