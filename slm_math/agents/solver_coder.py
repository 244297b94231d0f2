"""A program solves the problem, is mended when it fails, looked over, and tested by another
program.
"""

from __future__ import annotations

from slm_math.agents.base import Agent, ask
from slm_math.agents.coding import develop, printed
from slm_math.agents.judging import trial
from slm_math.agents.verdicts import certain, verdict
from slm_math.prompts import render
from slm_math.types import Chat, Generate, Note, Problem, Workflow, user


class SolverCoder(Agent):
    """What the program prints is the answer. Up to `rounds` programs, each mended up to `repairs`
    times.

    The solver looks its own program and output over; then the checker writes a program that puts
    the answer back into the problem. When either objects, the solver starts again with the
    objection.
    """

    roles = ("solver", "checker")
    uses_python = True

    def __init__(
        self,
        rounds: int = 2,
        repairs: int = 3,
        prompt: str = "code",
        repair_prompt: str = "repair",
        review_prompt: str = "review",
        backward_prompt: str = "backward",
        again_prompt: str = "recode",
        retry_temperature: float = 0.7,
    ) -> None:
        if rounds < 1 or repairs < 0:
            raise ValueError(
                f"SolverCoder needs rounds >= 1 and repairs >= 0, got {rounds} and {repairs}"
            )
        self.rounds, self.repairs, self.retry_temperature = rounds, repairs, retry_temperature
        self.prompt, self.repair_prompt, self.review_prompt = prompt, repair_prompt, review_prompt
        self.backward_prompt, self.again_prompt = backward_prompt, again_prompt
        self.takes("problem", "prompt")
        self.takes("output", "repair_prompt", "review_prompt")
        self.takes("problem answer", "backward_prompt")
        self.takes("problem critique", "again_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        answer, why = None, "rounds"
        for round in range(self.rounds):
            warmth = self.retry_temperature if round else None
            chat, result = yield from develop(
                chat, self.repair_prompt, self.repairs, temperature=warmth
            )
            if result is None:
                why = "lost"
                break
            said = printed(result)
            yield [Note("draft", said)]
            answer = said or answer
            critique = f"The program did not work:\n{result.text or 'It printed nothing.'}"
            if said is not None:
                decision, critique = yield from self.inspect(problem, chat, result.text, said)
                if decision != "INCORRECT":
                    why = "accepted" if decision == "CORRECT" else "undecided"
                    break
            chat = user(
                render(self.again_prompt, problem=problem.text, critique=critique), problem.images
            )
        yield [Note("stop", why)]
        return answer

    def inspect(
        self, problem: Problem, chat: Chat, output: str, answer: str
    ) -> Workflow[tuple[str, str]]:
        """The verdict of both checks on a program that ran, and the objection; one CORRECT is
        enough.
        """
        seen = "UNCLEAR"
        review = yield from ask(
            Generate(chat + user(render(self.review_prompt, output=output))), certain
        )
        if review is not None:
            seen = verdict(review.text)
            yield [Note("verdict", seen, role="solver")]
            if seen == "INCORRECT":
                return seen, review.text
        decision, said = yield from trial(
            problem, answer, self.backward_prompt, self.repair_prompt, "checker"
        )
        if decision == "INCORRECT":
            return (
                decision,
                f"A program that puts the answer {answer} back into the problem printed:\n{said}",
            )
        return "CORRECT" if "CORRECT" in (seen, decision) else "UNCLEAR", ""
