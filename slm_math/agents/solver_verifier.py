"""Solve, let a verifier judge, try again with its critique."""

from __future__ import annotations

from slm_math.agents.base import Agent, stated
from slm_math.agents.coding import since, work
from slm_math.agents.judging import judge
from slm_math.answers import equivalent
from slm_math.prompts import render
from slm_math.types import Note, Problem, Workflow, assistant, user

SILENT = "It does not state a final answer."
UNCHECKED = "It could not be checked."


class SolverVerifier(Agent):
    """Up to `rounds` drafts; stops when the verifier says CORRECT or two drafts agree, else the
    last answer stands.

    Both may write programs: the solver up to `runs` a draft, which mends those that fail, the
    verifier one, whose output it sees before it decides. The critique goes back to the solver; with
    `fresh=True` in a new chat (of `retry_prompt`, by default one that shows the problem again).
    Retries sample at `retry_temperature`, since a greedy solver would only repeat itself. A lost
    reply is no round.
    """

    roles = ("solver", "verifier")
    uses_python = True

    def __init__(
        self,
        rounds: int = 5,
        prompt: str = "solve",
        verify_prompt: str = "verify",
        verify_output_prompt: str = "verify_output",
        retry_prompt: str | None = None,
        output_prompt: str = "output",
        repair_prompt: str = "repair",
        runs: int = 3,
        retry_temperature: float = 0.7,
        fresh: bool = False,
    ) -> None:
        if rounds < 1 or runs < 0:
            raise ValueError(
                f"SolverVerifier needs rounds >= 1 and runs >= 0, got {rounds} and {runs}"
            )
        self.rounds, self.runs = rounds, runs
        self.retry_temperature, self.fresh = retry_temperature, fresh
        self.prompt, self.output_prompt, self.repair_prompt = prompt, output_prompt, repair_prompt
        self.verify_prompt, self.verify_output_prompt = verify_prompt, verify_output_prompt
        self.retry_prompt = retry_prompt or ("again" if fresh else "retry")
        self.takes("problem", "prompt")
        self.takes("problem draft answer", "verify_prompt")
        self.takes("output", "verify_output_prompt", "output_prompt", "repair_prompt")
        self.takes("problem critique", "retry_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        answers: list[str] = []
        why = "rounds"
        for round in range(self.rounds):
            warmth, begin = self.retry_temperature if round else None, chat
            chat, draft = yield from work(
                chat,
                self.output_prompt,
                self.runs,
                temperature=warmth,
                repair_prompt=self.repair_prompt,
            )
            if draft is None:
                why = "lost"
                break
            answer, critique = stated(draft.text), SILENT
            yield [Note("draft", answer)]
            if answer is not None:
                answers.append(answer)
                if any(
                    equivalent(answer, old, problem.answer_type, problem.choices)
                    for old in answers[:-1]
                ):
                    why = "agreed"
                    break
                if round + 1 == self.rounds:
                    break
                shown = since(begin, chat, draft)
                checks = self.verify_prompt, self.verify_output_prompt
                decision, critique = yield from judge(problem, shown, answer, *checks)
                if decision == "CORRECT":
                    why = "accepted"
                    break
            again = render(self.retry_prompt, problem=problem.text, critique=critique or UNCHECKED)
            chat = (
                user(again, problem.images) if self.fresh else chat + assistant(draft) + user(again)
            )
        yield [Note("stop", why)]
        return answers[-1] if answers else None
