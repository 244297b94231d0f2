"""A program solves the problem. It is repaired if it fails, reviewed, and tested by a second
program.
"""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.coding import program_answer, write_program
from slm_math.agents.judging import run_check_program
from slm_math.agents.replies import usable_reply
from slm_math.answers.verdicts import marked_verdict, verdict
from slm_math.prompts import Prompt
from slm_math.types import Chat, Generate, Note, Problem, Workflow, user


@dataclass(frozen=True)
class SolverCoder(Agent):
    """Writes a program, whose output is the answer; repairs, reviews and tests it.

    Up to `rounds` programs, each repaired up to `repairs` times.
    The solver reviews its own program and output; then the checker writes a program that puts the
    answer back into the problem. If either objects, the solver starts again with the objection.
    """

    roles = ("solver", "checker")
    uses_python = True
    minimums = {"rounds": 1, "repairs": 0}

    rounds: int = 2
    repairs: int = 3
    prompt: Prompt = Prompt("code", "problem")
    repair_prompt: Prompt = Prompt("repair", "output")
    review_prompt: Prompt = Prompt("review", "output")
    backward_prompt: Prompt = Prompt("backward", "problem answer")
    again_prompt: Prompt = Prompt("recode", "problem critique")
    retry_temperature: float = 0.7

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = problem.ask(self.prompt)
        answer, reason = None, "rounds"
        for attempt in range(self.rounds):
            chat, run = yield from write_program(
                chat,
                self.repair_prompt,
                self.repairs,
                temperature=self.retry_temperature if attempt else None,
            )
            if run is None:
                reason = "lost"
                break
            draft_answer, output = program_answer(run), run.result.text
            yield [Note("draft", draft_answer)]
            answer = draft_answer or answer
            critique = f"The program did not work:\n{output or 'It printed nothing.'}"
            if draft_answer is not None:
                decision, critique = yield from self.inspect(problem, chat, output, draft_answer)
                if decision != "INCORRECT":
                    reason = "accepted" if decision == "CORRECT" else "undecided"
                    break
            chat = problem.ask(self.again_prompt, critique=critique)
        yield [Note("stop", reason)]
        return answer

    def inspect(
        self, problem: Problem, chat: Chat, output: str, answer: str
    ) -> Workflow[tuple[str, str]]:
        """The verdict of review and check program together, and the objection.

        One CORRECT is enough if the other does not object.
        """
        opinion = "UNCLEAR"
        review = yield from usable_reply(
            Generate(chat + user(self.review_prompt.fill(output=output))), marked_verdict
        )
        if review is not None:
            opinion = verdict(review.text)
            yield [Note("verdict", opinion, role="solver")]
            if opinion == "INCORRECT":
                return opinion, review.text
        decision, check_output = yield from run_check_program(
            problem,
            answer,
            prompt=self.backward_prompt,
            repair_prompt=self.repair_prompt,
            role="checker",
        )
        if decision == "INCORRECT":
            return decision, (
                f"A program that puts the answer {answer} back into the problem printed:\n"
                f"{check_output}"
            )
        return "CORRECT" if "CORRECT" in (opinion, decision) else "UNCLEAR", ""
