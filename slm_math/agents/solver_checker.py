"""A solver and a checker take turns, with as much memory as `memory` gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slm_math.agents.base import Agent
from slm_math.agents.coding import reply_with_tools, transcript_since
from slm_math.agents.replies import stated_answer, usable_reply
from slm_math.agents.solver_verifier import NO_ANSWER, NOT_CHECKED
from slm_math.answers.verdicts import marked_verdict, verdict
from slm_math.prompts import Prompt
from slm_math.types import Chat, Generate, Note, Problem, Workflow, assistant, user


@dataclass(frozen=True)
class SolverChecker(Agent):
    """Solver and checker take turns.

    Up to `rounds` drafts; each but the last is checked. Stops at CORRECT; otherwise the last answer
    is final.

    Args:
        memory: "none": both see the problem and the newest draft or critique; "chat": each
            continues its own chat; "summary": the solver sees a summary, which it writes itself, of
            all attempts and critiques.
        runs: programs per reply of either role; their output goes back to that role. 0: no tools.
        retry_prompt: shows a critique in the solver's chat (memory "chat").
        again_prompt: shows the problem and a critique or summary in a new chat.
        retry_temperature: of the drafts after the first.
    """

    roles = ("solver", "checker")
    uses_python = True
    minimums = {"rounds": 1, "runs": 0}

    rounds: int = 3
    memory: Literal["none", "chat", "summary"] = "chat"
    runs: int = 0
    prompt: Prompt = Prompt("solve", "problem")
    check_prompt: Prompt = Prompt("check", "problem draft")
    retry_prompt: Prompt = Prompt("retry", "problem critique")
    again_prompt: Prompt = Prompt("again", "problem critique")
    summary_prompt: Prompt = Prompt("summarize", "problem draft critique summary")
    output_prompt: Prompt = Prompt("output", "output")
    check_output_prompt: Prompt = Prompt("verify_output", "output")
    retry_temperature: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory not in ("none", "chat", "summary"):
            raise ValueError(
                f"SolverChecker's memory must be none, chat or summary, got {self.memory!r}"
            )
        self.derive(uses_python=self.runs > 0)

    def solve(self, problem: Problem) -> Workflow[str | None]:
        solver_chat, checker_chat = problem.ask(self.prompt), ()
        answer, summary, reason = None, "", "rounds"
        for attempt in range(self.rounds):
            chat_before = solver_chat
            solver_chat, draft = yield from reply_with_tools(
                solver_chat,
                self.output_prompt,
                self.runs,
                temperature=self.retry_temperature if attempt else None,
            )
            if draft is None:
                reason = "lost"
                break
            draft_answer = stated_answer(draft.text, problem.answer_type)
            yield [Note("draft", draft_answer)]
            answer = draft_answer or answer
            if attempt + 1 == self.rounds:
                break
            decision, critique = "INCORRECT", NO_ANSWER
            if draft_answer is not None:
                transcript = transcript_since(chat_before, solver_chat, draft)
                decision, critique, checker_chat = yield from self.check(
                    problem, transcript, checker_chat
                )
            if decision == "CORRECT":
                reason = "accepted"
                break
            if self.memory == "chat":
                retry = self.retry_prompt.fill(problem=problem.statement, critique=critique)
                solver_chat += assistant(draft) + user(retry)
                continue
            if self.memory == "summary":
                summary = critique = yield from self.summarize(
                    problem, draft.text, critique, summary
                )
            solver_chat = problem.ask(self.again_prompt, critique=critique)
        yield [Note("stop", reason)]
        return answer

    def check(self, problem: Problem, draft: str, chat: Chat) -> Workflow[tuple[str, str, Chat]]:
        """The checker's verdict, its last reply, and the chat that it continues next time."""
        question = problem.ask(self.check_prompt, draft=draft)
        context, reply = yield from reply_with_tools(
            chat + question if self.memory == "chat" else question,
            self.check_output_prompt,
            self.runs,
            role="checker",
            is_complete=marked_verdict,
        )
        if reply is None:
            return "UNCLEAR", NOT_CHECKED, chat
        decision = verdict(reply.text)
        yield [Note("verdict", decision, role="checker")]
        return decision, reply.text, context + assistant(reply)

    def summarize(self, problem: Problem, draft: str, critique: str, summary: str) -> Workflow[str]:
        """All attempts and critiques so far, in the solver's words. If its reply is unusable: the
        old summary, or else the critique.
        """
        chat = problem.ask(self.summary_prompt, draft=draft, critique=critique, summary=summary)
        reply = yield from usable_reply(Generate(chat))
        return summary or critique if reply is None else reply.text
