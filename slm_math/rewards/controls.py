"""Rewards of control arms, which say nothing of what is right: how much of a gain is left with
them, training would have brought anyway.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from slm_math.answers import readable
from slm_math.answers.decisions import NO, YES, Decision
from slm_math.answers.graded import GradedTrace
from slm_math.ranges import check_number
from slm_math.rewards.base import Key, Reward, Scored
from slm_math.types import Problem, Workflow


class RandomReward(Reward):
    """1 or 0, whatever the role did (a "spurious reward", Shao et al. 2025).

    The draw depends on the seed of the run, the step, the problem, the sample and the role alone:
    it repeats.

    Args:
        share: how often it is 1.
    """

    def __init__(self, share: float = 0.5, **common: Any) -> None:
        super().__init__(**common)
        check_number("RandomReward.share", share, low=0, high=1)
        self.share = share

    def __call__(self, graded: GradedTrace) -> float:
        return self.scored(graded, ())

    def scored(self, graded: GradedTrace, key: Key) -> float:
        own = (*key, self.role, self.name, graded.task.problem.id, graded.trace.sample)
        return float(random.Random(repr(own)).random() < self.share)


class FormatOnly(Reward):
    """Another reward as if every answer that the grader can read were right: what it pays for the
    form of an answer, without its truth.

    The reward sees verdicts that say whether an answer is readable (see `Parsable`), and instead of
    the reference answer the agent's own.

    Args:
        reward: the reward.
    """

    def __init__(self, reward: Reward) -> None:
        super().__init__(reward.weight, reward.role, reward.name)
        self.reward = reward
        self.roles, self.uses_python = reward.roles, reward.uses_python

    def __call__(self, graded: GradedTrace) -> Scored | Workflow[Scored]:
        return self.scored(graded, ())

    def scored(self, graded: GradedTrace, key: Key) -> Scored | Workflow[Scored]:
        return self.reward.scored(_as_if_right(graded), key)


def _as_if_right(graded: GradedTrace) -> GradedTrace:
    problem, own = graded.task.problem, graded.trace.answer
    return replace(
        graded,
        task=replace(graded.task, gold=own or "", solution=None),
        decision=_read(own, problem),
        decisions={answer: _read(answer, problem) for answer in graded.decisions},
    )


def _read(answer: str | None, problem: Problem) -> Decision:
    return YES if answer is not None and readable(answer, problem) else NO
