"""Rewards: from a task and what happened to one number per trained role."""

from __future__ import annotations

from collections.abc import Mapping

from slm_math.answers import judge
from slm_math.types import Task, Trace

Scores = Mapping[str, Mapping[str, float]]


class Reward:
    """Scores a trace: role -> named parts, whose sum is the role's reward. A missing role is not scored."""

    def __call__(self, task: Task, trace: Trace) -> Scores:
        raise NotImplementedError


class Correct(Reward):
    """Is the agent's final answer right?

    Args:
        right: reward of a right answer.
        wrong: reward of a wrong answer.
        missing: reward when there is no answer.
        finish: when True, an answer counts only if the role's last reply ended by itself, not by the token budget.
        role: the role that is scored.
    """

    def __init__(
        self, right: float = 1.0, wrong: float = 0.0, missing: float = 0.0, finish: bool = True, role: str = "solver"
    ) -> None:
        self.right = right
        self.wrong = wrong
        self.missing = missing
        self.finish = finish
        self.role = role

    def __call__(self, task: Task, trace: Trace) -> Scores:
        replies = [turn.reply for turn in trace.turns if turn.request.role == self.role]
        if not replies or trace.error:
            return {}
        if trace.answer is None or (self.finish and replies[-1].finish != "stop"):
            return {self.role: {"correct": self.missing}}
        return {self.role: {"correct": self.right if judge(trace.answer, task).equal else self.wrong}}
