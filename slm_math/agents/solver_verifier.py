"""Solve, ask a verifier, try again with its critique."""

from __future__ import annotations

from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.coding import reply_with_tools, transcript_since
from slm_math.agents.judging import ask_verifier
from slm_math.agents.replies import stated_answer
from slm_math.answers import equivalent
from slm_math.prompts import Prompt
from slm_math.types import Note, Problem, Workflow, assistant, user

# critiques of drafts that no verifier judged
NO_ANSWER = "It does not state a final answer."
NOT_CHECKED = "It could not be checked."


@dataclass(frozen=True)
class SolverVerifier(Agent):
    """Solves, asks a verifier, and tries again with its critique.

    Up to `rounds` drafts. Stops when the verifier says CORRECT or when two drafts agree; otherwise
    the last answer is final. An unusable reply of the solver does not count as a round.

    Args:
        retry_prompt: shows the critique of the last draft. By default the template "retry"; with
            `fresh` the template "again", which shows the problem as well.
        runs: programs that the solver may run for each draft; the verifier may run one.
        repair_prompt: shows the error of a program that failed.
        retry_temperature: of the drafts after the first: at temperature 0 the solver would repeat
            itself.
        fresh: the solver tries again in a new chat.
    """

    roles = ("solver", "verifier")
    uses_python = True
    minimums = {"rounds": 1, "runs": 0}

    rounds: int = 5
    prompt: Prompt = Prompt("solve", "problem")
    verify_prompt: Prompt = Prompt("verify", "problem draft answer")
    verify_output_prompt: Prompt = Prompt("verify_output", "output")
    retry_prompt: Prompt | None = None
    output_prompt: Prompt = Prompt("output", "output")
    repair_prompt: Prompt = Prompt("repair", "output")
    runs: int = 3
    retry_temperature: float = 0.7
    fresh: bool = False

    def __post_init__(self) -> None:
        retry_prompt = self.retry_prompt or ("again" if self.fresh else "retry")
        self.derive(retry_prompt=Prompt(retry_prompt, "problem critique"))
        super().__post_init__()

    def solve(self, problem: Problem) -> Workflow[str | None]:
        assert self.retry_prompt is not None
        chat = problem.ask(self.prompt)
        answers: list[str] = []
        reason = "rounds"
        for attempt in range(self.rounds):
            chat_before = chat
            chat, draft = yield from reply_with_tools(
                chat,
                self.output_prompt,
                self.runs,
                temperature=self.retry_temperature if attempt else None,
                repair_prompt=self.repair_prompt,
            )
            if draft is None:
                reason = "lost"
                break
            answer = stated_answer(draft.text, problem.answer_type)
            critique = NO_ANSWER
            yield [Note("draft", answer)]
            if answer is not None:
                answers.append(answer)
                if any(
                    equivalent(answer, earlier, problem.answer_type, problem.choices)
                    for earlier in answers[:-1]
                ):
                    reason = "agreed"
                    break
                if attempt + 1 == self.rounds:
                    break
                decision, critique = yield from ask_verifier(
                    problem,
                    draft=transcript_since(chat_before, chat, draft),
                    answer=answer,
                    prompt=self.verify_prompt,
                    output_prompt=self.verify_output_prompt,
                )
                if decision == "CORRECT":
                    reason = "accepted"
                    break
            critique = critique or NOT_CHECKED
            if self.fresh:
                chat = problem.ask(self.retry_prompt, critique=critique)
            else:
                retry = self.retry_prompt.fill(problem=problem.statement, critique=critique)
                chat += assistant(draft) + user(retry)
        yield [Note("stop", reason)]
        return answers[-1] if answers else None
