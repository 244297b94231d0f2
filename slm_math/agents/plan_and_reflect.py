"""Plan, solve the parts, reflect, put the parts together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slm_math.agents.base import Agent
from slm_math.agents.coding import reply_with_tools
from slm_math.agents.replies import stated_answer, usable_reply
from slm_math.answers.verdicts import marked_verdict, verdict
from slm_math.prompts import Prompt
from slm_math.types import Generate, Note, Problem, Workflow

_PART = re.compile(
    r"(?:[-*] *)?(?:\*\*)?(?:(?:Part|Step|Sub-?problem) *)?\d+ *[.):](?!\d) *(\S.*)", re.IGNORECASE
)
MAX_PARTS = 5


def numbered_lines(text: str) -> list[str]:
    """The numbered lines of a text, without their numbers."""
    matches = [_PART.match(line.strip()) for line in text.splitlines()]
    return [match[1].strip() for match in matches if match]


@dataclass(frozen=True)
class PlanAndReflect(Agent):
    """Splits the problem into two to five parts, solves each, and reflects on them.

    The reflection ends with ACCEPT or REJECT. Accepted parts, or those of the last cycle, are put
    together to the answer; rejected parts lead to a new plan. The draft of a cycle is the answer
    that its last part states. If a plan names fewer than two parts, the whole problem is the only
    part.

    Args:
        cycles: plans at most.
        runs: programs per part; 0: no tools.
        plan_prompt: asks for a plan; {critique} is the reflection on the last one, or empty.
        part_prompt: asks for one part; {done} shows the parts that are solved.
        retry_temperature: of plans and parts after the first cycle.
    """

    uses_python = True
    minimums = {"cycles": 1, "runs": 0}

    cycles: int = 3
    runs: int = 1
    plan_prompt: Prompt = Prompt("plan", "problem critique")
    part_prompt: Prompt = Prompt("part", "problem done part")
    output_prompt: Prompt = Prompt("output", "output")
    reflect_prompt: Prompt = Prompt("reflect", "problem done")
    integrate_prompt: Prompt = Prompt("integrate", "problem done")
    retry_temperature: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        self.derive(uses_python=self.runs > 0)

    def solve(self, problem: Problem) -> Workflow[str | None]:
        done, critique, draft, reason = "", "", None, "rounds"
        for cycle in range(self.cycles):
            temperature = self.retry_temperature if cycle else None
            solved = yield from self.solve_parts(problem, critique, temperature)
            if solved is None:
                reason = "lost"
                break
            done, draft = solved
            yield [Note("draft", draft)]
            reflection = yield from usable_reply(
                Generate(problem.ask(self.reflect_prompt, done=done)), marked_verdict
            )
            if reflection is None:  # there is no objection to plan anew with
                reason = "lost"
                break
            decision = verdict(reflection.text)
            yield [Note("verdict", decision, role="solver")]
            if decision != "INCORRECT":
                reason = "accepted" if decision == "CORRECT" else "undecided"
                break
            critique = reflection.text
        yield [Note("stop", reason)]
        final = yield from usable_reply(
            Generate(problem.ask(self.integrate_prompt, done=done)), stated_answer
        )
        return draft if final is None else stated_answer(final.text, problem.answer_type) or draft

    def solve_parts(
        self, problem: Problem, critique: str, temperature: float | None
    ) -> Workflow[tuple[str, str | None] | None]:
        """The parts of a new plan with their solutions, and the answer that the last one states;
        None if all replies were unusable.
        """
        plan = yield from usable_reply(
            Generate(problem.ask(self.plan_prompt, critique=critique), temperature=temperature),
            numbered_lines,
        )
        parts = numbered_lines(plan.text)[:MAX_PARTS] if plan is not None else []
        done, answer, any_usable = "", None, False
        for part in parts if len(parts) > 1 else [problem.text]:
            part = part.strip()
            chat = problem.ask(self.part_prompt, done=done or "(nothing yet)", part=part)
            _, reply = yield from reply_with_tools(
                chat, self.output_prompt, self.runs, temperature=temperature
            )
            solution = reply.text.strip() if reply is not None else "(no solution)"
            done += f"{part}\n{solution}\n\n"
            answer = stated_answer(solution, problem.answer_type)
            any_usable = any_usable or reply is not None
        return (done.strip(), answer) if any_usable else None
