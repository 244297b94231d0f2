"""A solver and a checker in turn, with as much memory as they are given."""

from __future__ import annotations

from typing import Literal

from slm_math.agents.base import Agent, ask, stated
from slm_math.agents.coding import since, work
from slm_math.agents.solver_verifier import SILENT, UNCHECKED
from slm_math.agents.verdicts import certain, verdict
from slm_math.prompts import render
from slm_math.types import Chat, Generate, Note, Problem, Workflow, assistant, user


class SolverChecker(Agent):
    """Up to `rounds` drafts; each but the last is checked. Stops at CORRECT, else the last answer
    stands.

    Args:
        memory: "none": both see the problem and the newest draft or feedback; "chat": each goes on
            with its own chat; "summary": the solver sees a summary, which it writes itself, of all
            that was tried and objected to.
        runs: programs per reply of either, whose output comes back to it; 0 is without tools.
        retry_temperature: of the drafts after the first.
    """

    roles = ("solver", "checker")
    uses_python = True

    def __init__(
        self,
        rounds: int = 3,
        memory: Literal["none", "chat", "summary"] = "chat",
        runs: int = 0,
        prompt: str = "solve",
        check_prompt: str = "check",
        retry_prompt: str = "retry",
        again_prompt: str = "again",
        summary_prompt: str = "summarise",
        output_prompt: str = "output",
        check_output_prompt: str = "verify_output",
        retry_temperature: float = 0.7,
    ) -> None:
        if memory not in ("none", "chat", "summary"):
            raise ValueError(
                f"SolverChecker's memory must be none, chat or summary, got {memory!r}"
            )
        if rounds < 1 or runs < 0:
            raise ValueError(
                f"SolverChecker needs rounds >= 1 and runs >= 0, got {rounds} and {runs}"
            )
        self.rounds, self.memory, self.runs = rounds, memory, runs
        self.retry_temperature = retry_temperature
        self.prompt, self.check_prompt = prompt, check_prompt
        self.retry_prompt, self.again_prompt, self.summary_prompt = (
            retry_prompt,
            again_prompt,
            summary_prompt,
        )
        self.output_prompt, self.check_output_prompt = output_prompt, check_output_prompt
        self.uses_python = runs > 0
        self.takes("problem", "prompt")
        self.takes("problem draft", "check_prompt")
        self.takes("problem critique", "retry_prompt", "again_prompt")
        self.takes("problem draft critique summary", "summary_prompt")
        self.takes("output", "output_prompt", "check_output_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        solving, checking = user(render(self.prompt, problem=problem.text), problem.images), ()
        answer, summary, why = None, "", "rounds"
        for round in range(self.rounds):
            warmth, begin = self.retry_temperature if round else None, solving
            solving, draft = yield from work(
                solving, self.output_prompt, self.runs, temperature=warmth
            )
            if draft is None:
                why = "lost"
                break
            said = stated(draft.text)
            yield [Note("draft", said)]
            answer = said or answer
            if round + 1 == self.rounds:
                break
            decision, critique = "INCORRECT", SILENT
            if said is not None:
                decision, critique, checking = yield from self.check(
                    problem, since(begin, solving, draft), checking
                )
            if decision == "CORRECT":
                why = "accepted"
                break
            if self.memory == "chat":
                retry = render(self.retry_prompt, problem=problem.text, critique=critique)
                solving += assistant(draft) + user(retry)
                continue
            if self.memory == "summary":
                summary = critique = yield from self.summarise(
                    problem, draft.text, critique, summary
                )
            solving = user(
                render(self.again_prompt, problem=problem.text, critique=critique), problem.images
            )
        yield [Note("stop", why)]
        return answer

    def check(self, problem: Problem, draft: str, chat: Chat) -> Workflow[tuple[str, str, Chat]]:
        """The checker's verdict, what it says, and the chat to go on with."""
        question = user(
            render(self.check_prompt, problem=problem.text, draft=draft), problem.images
        )
        asked = chat + question if self.memory == "chat" else question
        asked, said = yield from work(
            asked, self.check_output_prompt, self.runs, "checker", says=certain
        )
        if said is None:
            return "UNCLEAR", UNCHECKED, chat
        decision = verdict(said.text)
        yield [Note("verdict", decision, role="checker")]
        return decision, said.text, asked + assistant(said)

    def summarise(self, problem: Problem, draft: str, critique: str, summary: str) -> Workflow[str]:
        """What was tried and objected to so far, in the solver's words; as before, or the critique,
        where none came.
        """
        slots = {"problem": problem.text, "draft": draft, "critique": critique, "summary": summary}
        reply = yield from ask(Generate(user(render(self.summary_prompt, **slots), problem.images)))
        return summary or critique if reply is None else reply.text
