"""Several samples, one vote each, counted over equivalent answers (self-consistency, Wang et al. 2022)."""

from __future__ import annotations

from slm_math.agents.base import Agent
from slm_math.answers import equivalent, extract
from slm_math.prompts import render
from slm_math.types import Generate, Problem, Workflow, user


class MajorityVote(Agent):
    """Samples `k` solutions; the largest class of equal answers wins, ties go to the class seen first."""

    def __init__(self, k: int = 5, prompt: str = "solve", temperature: float = 0.7, top_p: float = 0.95) -> None:
        if k < 1:
            raise ValueError(f"MajorityVote needs k >= 1, got {k}")
        self.k = k
        self.prompt = prompt
        self.temperature = temperature
        self.top_p = top_p
        render(prompt, problem="")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        replies = yield [Generate(chat, temperature=self.temperature, top_p=self.top_p)] * self.k
        return vote([extract(reply.text).value for reply in replies], problem)


def vote(answers: list[str | None], problem: Problem) -> str | None:
    """The first member of the largest class of equivalent answers; None when nobody answered."""
    classes: list[list[str]] = []
    for answer in answers:
        if answer is None:
            continue
        for members in classes:
            if equivalent(answer, members[0], problem.answer_type, problem.choices):
                members.append(answer)
                break
        else:
            classes.append([answer])
    return max(classes, key=len)[0] if classes else None
