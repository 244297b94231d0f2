"""Several samples, one vote each, counted over equivalent answers (self-consistency, Wang et al.
2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slm_math.agents.base import Agent, parallel
from slm_math.agents.judging import ask_verifier
from slm_math.agents.replies import is_usable, stated_answer
from slm_math.answers import classes
from slm_math.prompts import Prompt
from slm_math.types import Generate, Note, Problem, Workflow

WEIGHTS = {"CORRECT": 1.0, "UNCLEAR": 0.5, "INCORRECT": 0.0}


@dataclass(frozen=True)
class MajorityVote(Agent):
    """Samples `k` solutions and takes the answer that most of them state.

    The largest class of equivalent answers wins; of classes of equal size, the one that came first.

    Args:
        k: number of samples.
        pick: "votes" counts each sample once; "weighted" weights a sample by the verdicts of the
            verifier on it (Li et al. 2022); "best" takes the sample with the largest weight, and
            among those of equal weight one of the larger class.
        checks: verdicts of the verifier on each sample. The sample's weight is their mean (CORRECT
            1, UNCLEAR 0.5, INCORRECT 0).
        check_temperature: temperature of the verdicts if there are several.
        stop: asks for no more samples once they could not change the answer: first for as many as
            may decide, then for as many again. The answer is that of all k, each with its own
            draw, for fewer tokens and in more rounds. Only with votes.
    """

    minimums = {"k": 1, "checks": 1}

    k: int = 5
    prompt: Prompt = Prompt("solve", "problem")
    temperature: float = 0.7
    top_p: float = 0.95
    pick: Literal["votes", "weighted", "best"] = "votes"
    checks: int = 1
    check_temperature: float = 0.7
    stop: bool = False
    verify_prompt: Prompt = Prompt("verify", "problem draft answer")
    verify_output_prompt: Prompt = Prompt("verify_output", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pick not in ("votes", "weighted", "best"):
            raise ValueError(
                f"MajorityVote's pick must be votes, weighted or best, got {self.pick!r}"
            )
        if self.stop and self.pick != "votes":
            raise ValueError(
                f"MajorityVote stops early only with pick: votes, since verdicts may still weigh "
                f"more, got {self.pick!r}"
            )
        if self.pick != "votes":
            self.derive(roles=("solver", "verifier"), uses_python=True)

    def solve(self, problem: Problem) -> Workflow[str | None]:
        votes: list[tuple[str | None, float]] = []
        counts: list[int] = []
        while not decided(counts, self.k - len(votes)):
            more = may_decide(counts, self.k - len(votes)) if self.stop else self.k
            asked = [self.candidate(problem) for _ in range(more)]
            votes += yield from parallel(asked, first=len(votes))
            answers = [answer for answer, _ in votes if answer is not None]
            found = classes(answers, problem.answer_type, problem.choices)
            counts = [len(group) for group in found]
        answer, share = elect(votes, problem, best=self.pick == "best")
        yield [Note("vote", answer, share)]
        return answer

    def candidate(self, problem: Problem) -> Workflow[tuple[str | None, float]]:
        """One answer and its weight."""
        chat = problem.ask(self.prompt)
        [reply] = yield [Generate(chat, temperature=self.temperature, top_p=self.top_p)]
        answer = stated_answer(reply.text, problem.answer_type)
        if (yield from is_usable(reply)):
            yield [Note("candidate", answer)]
        if answer is None or self.pick == "votes":
            return answer, 1.0
        checks = [
            ask_verifier(
                problem,
                draft=reply.text,
                answer=answer,
                prompt=self.verify_prompt,
                output_prompt=self.verify_output_prompt,
                temperature=self.check_temperature if self.checks > 1 else None,
            )
            for _ in range(self.checks)
        ]
        verdicts = yield from parallel(checks)
        return answer, sum(WEIGHTS[decision] for decision, _ in verdicts) / self.checks


def decided(counts: Sequence[int], left: int) -> bool:
    """Whether no `left` further votes can change which of the classes wins, given the votes of each
    class in the order in which they came; of equal ones the first wins.
    """
    if not counts or not left:
        return not left
    most = max(counts)
    leader = counts.index(most)
    others = (count + left for place, count in enumerate(counts) if place > leader)
    earlier = (count + left for count in counts[:leader])
    return left <= most and all(n <= most for n in others) and all(n < most for n in earlier)


def may_decide(counts: Sequence[int], left: int) -> int:
    """The fewest further votes that decide, if all of them are for the class that leads."""
    leading = list(counts) or [0]
    leader = leading.index(max(leading))
    for more in range(1, left):
        leading[leader] += 1
        if decided(leading, left - more):
            return more
    return left


def elect(
    votes: Sequence[tuple[str | None, float]], problem: Problem, best: bool = False
) -> tuple[str | None, float]:
    """The winner among (answer, weight) pairs, and its share of all votes (with `best`, its
    weight); (None, 0) if there is no answer.

    Of classes of equal weight the larger one wins, then the one that came first.
    """
    answered = [(answer, weight) for answer, weight in votes if answer is not None]
    if not answered:
        return None, 0.0
    groups = classes([answer for answer, _ in answered], problem.answer_type, problem.choices)
    weights = [[answered[index][1] for index in group] for group in groups]
    scores = [max(group) if best else sum(group) for group in weights]
    winner = max(range(len(groups)), key=lambda number: (scores[number], len(groups[number])))
    if not best:
        return answered[groups[winner][0]][0], scores[winner] / len(votes)
    best_sample = max(groups[winner], key=lambda index: answered[index][1])
    return answered[best_sample][0], scores[winner]
