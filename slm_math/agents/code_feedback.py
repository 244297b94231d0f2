"""Write a program, see what it prints, then answer."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.coding import has_whole_program, program, program_answer
from slm_math.agents.replies import note_draft, stated_answer, why_unusable
from slm_math.prompts import Prompt
from slm_math.types import Generate, Note, Problem, Run, Workflow, assistant, user


@dataclass(frozen=True)
class CodeFeedback(Agent):
    """Writes a program, sees its output, then answers.

    The first pass is reasoning with a Python program. The program runs and its output goes back;
    the second pass answers. The answer is what the model *writes* after it has seen the output. A
    first pass without a program is final. The first draft is the answer that the first pass states,
    else the answer of its program.
    """

    uses_python = True

    prompt: Prompt = Prompt("code", "problem")
    output_prompt: Prompt = Prompt("output", "output")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = problem.ask(self.prompt)
        [first] = yield [Generate(chat)]
        request = program(first.text)
        if request is None or why_unusable(first, has_whole_program) is not None:
            return (yield from note_draft(first, answer_type=problem.answer_type))
        [result] = yield [request]
        computed = program_answer(Run(request.code, result))
        yield [Note("draft", stated_answer(first.text, problem.answer_type) or computed)]
        chat += assistant(first) + user(self.output_prompt.fill(output=result.text))
        [final] = yield [Generate(chat)]
        return (yield from note_draft(final, answer_type=problem.answer_type))
