"""From scripted replies to rewards and advantages, without a model."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import Duo, Even, grpo

from slm_math.answers.graded import GradedTrace
from slm_math.data.rows import Row
from slm_math.losses.advantages import Advantage
from slm_math.records.record import Rollout, scored
from slm_math.rewards import Reward
from slm_math.types import Generate, Problem, Reply, Task, Trace, Turn, user


class Constant(Reward):
    def __call__(self, graded: GradedTrace) -> float:
        return 0.25


def trace(tokens: list[int]) -> Trace:
    reply = Reply("", tuple(tokens), (-1.0,) * len(tokens), "stop", (1, 2))
    return Trace(Problem("p", "x"), 0, (Turn(Generate(user("x")), reply),), None)


class Unscored(Even):
    """Even, and nothing at all for a reply that ends in token 6."""

    def __call__(self, graded: GradedTrace) -> float | None:  # type: ignore[override]
        return None if graded.trace.turns[0].reply.token_ids[-1] == 6 else super().__call__(graded)


def groups(module: Any, *replies: list[list[int]]) -> list[list[Rollout]]:
    """Groups of scored rollouts, one reply a rollout."""
    task = Task(Problem("p", "x"), "1")
    return [
        [scored(task, trace(tokens), module.rewards, module.train_roles) for tokens in group]
        for group in replies
    ]


def credited(module: Any, *replies: list[list[int]]) -> list[Row]:
    found = groups(module, *replies)
    rows = module.rows(found)
    attach(module)
    module.credit(found, rows)
    return rows


def attach(module: Any) -> None:
    """A trainer of one rank for methods that ask how many there are."""
    module._trainer = SimpleNamespace(world_size=1, global_rank=0)


def test_missing_reward_has_no_advantage() -> None:
    module = grpo(rewards=[Unscored()], advantage=Advantage(scale="none"), group_size=3)
    rows = credited(module, [[4], [6], [7]])
    assert {row.ids[-1]: row.advantage for row in rows} == {4: 0.5, 6: 0.0, 7: -0.5}


def test_rewards_of_a_role_are_added_up_and_a_silent_one_is_missing() -> None:
    module = grpo(rewards=[Even(weight=0.5), Constant(weight=2.0)])
    [[one, other]] = groups(module, [[4], [5]])
    assert [one.rewards, other.rewards] == [{"solver": 1.0}, {"solver": 0.5}]
    assert one.parts == {"solver": {"even": 1.0, "constant": 0.25}}
    silent = grpo(rewards=[Even(role="judge")], agent=Duo(), train_roles=("judge",))
    [[one]] = groups(silent, [[4]])
    assert math.isnan(one.rewards["judge"])


def test_rewards_keep_all_their_digits() -> None:
    class Large(Even):
        def __call__(self, graded: GradedTrace) -> float:
            return 1e8 + super().__call__(graded)

    rows = credited(grpo(rewards=[Large()], group_size=2), [[4], [5]])
    assert [row.advantage for row in rows] == pytest.approx([0.7070, -0.7070], abs=1e-3)
