"""Rewards that ask a model: workflows, like agents."""

from __future__ import annotations

from typing import Any

from slm_math.agents.base import check_slots
from slm_math.answers.graded import GradedTrace
from slm_math.answers.verdicts import marked_verdict, verdict
from slm_math.prompts import Prompt
from slm_math.rewards.base import Reward, replies_of
from slm_math.types import Generate, Workflow


class AsksJudge(Reward):
    """Asks a judge model whether the reasoning in all replies of the role is sound.

    The judge sees the reference answer. Its verdict is read like that of a verifier; a reply that
    hit the length limit without a verdict is UNCLEAR. The engine of role `judge` answers: set
    `engines.judge`.

    Args:
        prompt: template with {problem}, {reference} and {solution}.
        correct: score after CORRECT.
        incorrect: score after INCORRECT.
        unclear: score after UNCLEAR; None leaves the sample without a reward.
        judge: the role that is asked.
        temperature: of the judge; 0 is greedy.
        max_new_tokens: the judge's token budget.
    """

    def __init__(
        self,
        prompt: str = "judge",
        correct: float = 1.0,
        incorrect: float = 0.0,
        unclear: float | None = 0.0,
        judge: str = "judge",
        temperature: float = 0.0,
        max_new_tokens: int = 1024,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.prompt = Prompt(prompt, "problem reference solution")
        self.scores = {"CORRECT": correct, "INCORRECT": incorrect, "UNCLEAR": unclear}
        self.roles = (judge,)
        self.temperature = temperature
        self.max_new_tokens = max_new_tokens
        check_slots(self.prompt, type(self).__name__, "prompt", must_show_problem=True)

    def __call__(self, graded: GradedTrace) -> Workflow[float | None]:
        problem = graded.task.problem
        solution = "\n\n".join(reply.text for reply in replies_of(graded.trace, self.role))
        request = Generate(
            problem.ask(self.prompt, reference=graded.task.gold, solution=solution),
            role=self.roles[0],
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
        )
        [opinion] = yield [request]
        read = verdict if opinion.finish == "stop" else marked_verdict
        return self.scores[read(opinion.text) or "UNCLEAR"]
