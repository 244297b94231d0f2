"""Solve, let a verifier judge, try again with its critique."""

from __future__ import annotations

from slm_math.agents.base import Agent, program, verdict
from slm_math.answers import equivalent, extract
from slm_math.prompts import render
from slm_math.types import Generate, Problem, Reply, Workflow, assistant, user


class SolverVerifier(Agent):
    """Up to `rounds` drafts; stops when the verifier says CORRECT or two drafts agree, else the last answer stands.

    The verifier may write one program; it then sees the output before it decides. Its critique goes back to the
    solver: `fresh=True` instead asks the retry as a new chat. Retries sample at `retry_temperature`, since a greedy
    solver would only repeat itself.
    """

    roles = ("solver", "verifier")
    uses_python = True

    def __init__(
        self,
        rounds: int = 3,
        prompt: str = "solve",
        verify_prompt: str = "verify",
        verify_output_prompt: str = "verify_output",
        retry_prompt: str = "retry",
        retry_temperature: float = 0.7,
        fresh: bool = False,
    ) -> None:
        if rounds < 1:
            raise ValueError(f"SolverVerifier needs rounds >= 1, got {rounds}")
        self.rounds = rounds
        self.prompt = prompt
        self.verify_prompt = verify_prompt
        self.verify_output_prompt = verify_output_prompt
        self.retry_prompt = retry_prompt
        self.retry_temperature = retry_temperature
        self.fresh = fresh
        render(prompt, problem="")
        render(verify_prompt, problem="", draft="", answer="")
        render(verify_output_prompt, output="")
        render(retry_prompt, problem="", critique="")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        answers: list[str] = []
        for round in range(self.rounds):
            [draft] = yield [Generate(chat, temperature=self.retry_temperature if round else None)]
            answer = extract(draft.text).value
            critique = "It does not state a final answer."
            if answer is not None:
                if any(equivalent(answer, old, problem.answer_type, problem.choices) for old in answers):
                    return answer
                answers.append(answer)
                if round + 1 == self.rounds:
                    break
                judgement = yield from self.judge(problem, draft, answer)
                if verdict(judgement) == "CORRECT":
                    return answer
                critique = judgement
            again = user(render(self.retry_prompt, problem=problem.text, critique=critique), problem.images)
            chat = again if self.fresh else chat + assistant(draft) + again
        return answers[-1] if answers else None

    def judge(self, problem: Problem, draft: Reply, answer: str) -> Workflow[str]:
        """What the verifier says in the end; a program that it writes runs, and its output goes back to it."""
        question = render(self.verify_prompt, problem=problem.text, draft=draft.text, answer=answer)
        chat = user(question, problem.images)
        [opinion] = yield [Generate(chat, role="verifier")]
        request = program(opinion.text)
        if request is None:
            return opinion.text
        [result] = yield [request]
        chat += assistant(opinion) + user(render(self.verify_output_prompt, output=result.text))
        [opinion] = yield [Generate(chat, role="verifier")]
        return opinion.text
