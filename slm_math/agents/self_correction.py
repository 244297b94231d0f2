"""Answer, check the answer without knowing whether it is right, answer again."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.replies import is_usable, note_draft, stated_answer
from slm_math.prompts import Prompt
from slm_math.types import Generate, Note, Problem, Workflow, assistant, user


@dataclass(frozen=True)
class SelfCorrection(Agent):
    """Answers, then is asked to check and correct the answer, whether it is right or wrong.

    The second answer is final, also where it is worse, or none. Nobody tells the model how good the
    first one was (intrinsic self-correction, Kumar et al. 2024, SCoRe). An unusable first reply
    ends the workflow: there is nothing to correct.

    Args:
        correct_prompt: asks for the second attempt, in the same chat.
        temperature: of both attempts; replaces the role's default.
    """

    prompt: Prompt = Prompt("solve", "problem")
    correct_prompt: Prompt = Prompt("correct", "problem")
    temperature: float | None = None

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = problem.ask(self.prompt)
        [first] = yield [Generate(chat, temperature=self.temperature)]
        if not (yield from is_usable(first)):
            return None
        yield [Note("draft", stated_answer(first.text, problem.answer_type))]
        chat += assistant(first) + user(self.correct_prompt.fill(problem=problem.statement))
        [second] = yield [Generate(chat, temperature=self.temperature)]
        return (yield from note_draft(second, answer_type=problem.answer_type))
