"""Plan, solve the parts, look back, put together."""

from __future__ import annotations

import re

from slm_math.agents.base import Agent, ask, stated
from slm_math.agents.coding import work
from slm_math.agents.verdicts import certain, verdict
from slm_math.prompts import render
from slm_math.types import Generate, Note, Problem, Workflow, user

_PART = re.compile(
    r"(?:[-*] *)?(?:\*\*)?(?:(?:Part|Step|Sub-?problem) *)?\d+ *[.):](?!\d) *(\S.*)", re.IGNORECASE
)
MOST = 5  # parts of a plan


def listed(text: str) -> list[str]:
    """The numbered lines of a text, without their numbers."""
    return [found[1].strip() for line in text.splitlines() if (found := _PART.match(line.strip()))]


class PlanAndReflect(Agent):
    """Breaks the problem into two to five parts, solves each in turn, and reflects on them: ACCEPT
    or REJECT.

    Accepted parts, or those of the last cycle, are put together to the answer; rejected ones lead
    to a new plan. Each part may run up to `runs` programs. The draft of a cycle is what its last
    part states. A plan that names fewer than two parts is no plan: the problem is then its only
    part.
    """

    uses_python = True

    def __init__(
        self,
        cycles: int = 3,
        runs: int = 1,
        plan_prompt: str = "plan",
        part_prompt: str = "part",
        output_prompt: str = "output",
        reflect_prompt: str = "reflect",
        integrate_prompt: str = "integrate",
        retry_temperature: float = 0.7,
    ) -> None:
        if cycles < 1 or runs < 0:
            raise ValueError(
                f"PlanAndReflect needs cycles >= 1 and runs >= 0, got {cycles} and {runs}"
            )
        self.cycles, self.runs, self.retry_temperature = cycles, runs, retry_temperature
        self.uses_python = runs > 0
        self.plan_prompt, self.part_prompt, self.output_prompt = (
            plan_prompt,
            part_prompt,
            output_prompt,
        )
        self.reflect_prompt, self.integrate_prompt = reflect_prompt, integrate_prompt
        self.takes("problem critique", "plan_prompt")
        self.takes("problem done part", "part_prompt")
        self.takes("output", "output_prompt")
        self.takes("problem done", "reflect_prompt", "integrate_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        done, critique, draft, why = "", "", None, "rounds"
        for cycle in range(self.cycles):
            solved = yield from self.parts(
                problem, critique, self.retry_temperature if cycle else None
            )
            if solved is None:
                why = "lost"
                break
            done, draft = solved
            yield [Note("draft", draft)]
            question = user(
                render(self.reflect_prompt, problem=problem.text, done=done), problem.images
            )
            review = yield from ask(Generate(question), certain)
            if review is None:  # nothing was objected to
                why = "lost"
                break
            decision = verdict(review.text)
            yield [Note("verdict", decision, role="solver")]
            if decision != "INCORRECT":
                why = "accepted" if decision == "CORRECT" else "undecided"
                break
            critique = review.text
        yield [Note("stop", why)]
        last = user(render(self.integrate_prompt, problem=problem.text, done=done), problem.images)
        final = yield from ask(Generate(last), stated)
        return draft if final is None else stated(final.text) or draft

    def parts(
        self, problem: Problem, critique: str, warmth: float | None
    ) -> Workflow[tuple[str, str | None] | None]:
        """The parts of a new plan with their solutions, and what the last of them states; None when
        all were lost.
        """
        asked = user(
            render(self.plan_prompt, problem=problem.text, critique=critique), problem.images
        )
        plan = yield from ask(Generate(asked, temperature=warmth), listed)
        named = listed(plan.text)[:MOST] if plan is not None else []
        done, answer, some = "", None, False
        for part in named if len(named) > 1 else [problem.text]:
            slots = {"problem": problem.text, "done": done or "(nothing yet)", "part": part.strip()}
            chat = user(render(self.part_prompt, **slots), problem.images)
            _, reply = yield from work(chat, self.output_prompt, self.runs, temperature=warmth)
            solution = reply.text.strip() if reply is not None else "(no solution)"
            done += f"{part.strip()}\n{solution}\n\n"
            answer, some = stated(solution), some or reply is not None
        return (done.strip(), answer) if some else None
