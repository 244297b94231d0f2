"""Several samples, one vote each, counted over equivalent answers (self-consistency, Wang et al.
2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from slm_math.agents.base import Agent, heard, parallel, stated
from slm_math.agents.judging import judge
from slm_math.answers import classes
from slm_math.prompts import render
from slm_math.types import Generate, Note, Problem, Workflow, user

WEIGHTS = {"CORRECT": 1.0, "UNCLEAR": 0.5, "INCORRECT": 0.0}


class MajorityVote(Agent):
    """Samples `k` solutions; the largest class of equal answers wins, ties go to the class seen
    first.

    Args:
        k: samples.
        pick: "votes" counts each sample once; "weighted" by what the verifier thinks of it (Li et
            al. 2022); "best" takes the sample that the verifier likes best, and the larger class of
            two that it likes alike.
        checks: verdicts of the verifier on each sample; their mean is its weight (CORRECT 1,
            UNCLEAR 0.5).
        check_temperature: of the verdicts when there are several.
    """

    def __init__(
        self,
        k: int = 5,
        prompt: str = "solve",
        temperature: float = 0.7,
        top_p: float = 0.95,
        pick: Literal["votes", "weighted", "best"] = "votes",
        checks: int = 1,
        check_temperature: float = 0.7,
        verify_prompt: str = "verify",
        verify_output_prompt: str = "verify_output",
    ) -> None:
        if k < 1 or checks < 1:
            raise ValueError(f"MajorityVote needs k >= 1 and checks >= 1, got {k} and {checks}")
        if pick not in ("votes", "weighted", "best"):
            raise ValueError(f"MajorityVote's pick must be votes, weighted or best, got {pick!r}")
        self.k = k
        self.prompt = prompt
        self.temperature = temperature
        self.top_p = top_p
        self.pick = pick
        self.checks = checks
        self.check_temperature = check_temperature
        self.verify_prompt = verify_prompt
        self.verify_output_prompt = verify_output_prompt
        if pick != "votes":
            self.roles = ("solver", "verifier")
            self.uses_python = True
        self.takes("problem", "prompt")
        self.takes("problem draft answer", "verify_prompt")
        self.takes("output", "verify_output_prompt")

    def solve(self, problem: Problem) -> Workflow[str | None]:
        cast = yield from parallel([self.candidate(problem) for _ in range(self.k)])
        answer, share = elect(cast, problem, best=self.pick == "best")
        yield [Note("vote", answer, share)]
        return answer

    def candidate(self, problem: Problem) -> Workflow[tuple[str | None, float]]:
        """One answer and its weight."""
        chat = user(render(self.prompt, problem=problem.text), problem.images)
        [reply] = yield [Generate(chat, temperature=self.temperature, top_p=self.top_p)]
        answer = stated(reply.text)
        if (yield from heard(reply)):
            yield [Note("candidate", answer)]
        if answer is None or self.pick == "votes":
            return answer, 1.0
        temperature = self.check_temperature if self.checks > 1 else None
        prompts = self.verify_prompt, self.verify_output_prompt
        ask = [
            judge(problem, reply.text, answer, *prompts, temperature=temperature)
            for _ in range(self.checks)
        ]
        verdicts = yield from parallel(ask)
        return answer, sum(WEIGHTS[decision] for decision, _ in verdicts) / self.checks


def elect(
    votes: Sequence[tuple[str | None, float]], problem: Problem, best: bool = False
) -> tuple[str | None, float]:
    """The winner of (answer, weight) and its share of all votes (for `best`, its weight); (None, 0)
    without answers.

    Classes of equal weight: the larger one, then the one seen first.
    """
    given = [(answer, weight) for answer, weight in votes if answer is not None]
    if not given:
        return None, 0.0
    found = classes([answer for answer, _ in given], problem.answer_type, problem.choices)
    weights = [[given[i][1] for i in members] for members in found]
    worth = [max(w) if best else sum(w) for w in weights]
    winner = max(range(len(found)), key=lambda c: (worth[c], len(found[c])))
    if not best:
        return given[found[winner][0]][0], worth[winner] / len(votes)
    chosen = max(found[winner], key=lambda i: given[i][1])
    return given[chosen][0], worth[winner]
