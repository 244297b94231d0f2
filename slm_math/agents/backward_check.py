"""Put the answer back into the problem; a program decides."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.judging import run_check_program
from slm_math.agents.replies import stated_answer, usable_reply
from slm_math.agents.solver_verifier import NO_ANSWER
from slm_math.prompts import Prompt
from slm_math.types import Generate, Note, Problem, Workflow, assistant, user


@dataclass(frozen=True)
class BackwardCheck(Agent):
    """Solves, then writes a program that puts the answer back into the problem.

    The program prints whether the conditions of the problem hold. After False the solver tries
    again, up to `rounds` drafts. An answer that holds, or that the program could not decide about,
    is final; otherwise the last answer is. A check program that fails is repaired at most once.
    """

    uses_python = True
    minimums = {"rounds": 1}

    rounds: int = 3
    prompt: Prompt = Prompt("solve", "problem")
    backward_prompt: Prompt = Prompt("backward", "problem answer")
    repair_prompt: Prompt = Prompt("repair", "output")
    retry_prompt: Prompt = Prompt("retry", "problem critique")
    retry_temperature: float = 0.7

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = problem.ask(self.prompt)
        answer, reason = None, "rounds"
        for attempt in range(self.rounds):
            draft = yield from usable_reply(
                Generate(chat, temperature=self.retry_temperature if attempt else None),
                stated_answer,
            )
            if draft is None:
                reason = "lost"
                break
            draft_answer = stated_answer(draft.text, problem.answer_type)
            yield [Note("draft", draft_answer)]
            answer = draft_answer or answer
            critique = NO_ANSWER
            if draft_answer is not None:
                decision, output = yield from run_check_program(
                    problem,
                    draft_answer,
                    prompt=self.backward_prompt,
                    repair_prompt=self.repair_prompt,
                )
                if decision != "INCORRECT":
                    reason = "accepted" if decision == "CORRECT" else "undecided"
                    break
                critique = (
                    f"A program that puts the answer {draft_answer} back into the problem "
                    f"printed:\n{output}"
                )
            retry = self.retry_prompt.fill(problem=problem.statement, critique=critique)
            chat += assistant(draft) + user(retry)
        yield [Note("stop", reason)]
        return answer
