"""From scripted replies to rewards and advantages, without a model."""

import math
from typing import Any

import pytest
import torch
from tiny import Duo, Even, grpo

from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.losses.advantages import Advantage
from slm_math.policy.batches import token_counts
from slm_math.rewards import Credit, Reward, score
from slm_math.rollout.groups import Rollout
from slm_math.rollout.rows import training_rows
from slm_math.rollout.signals import given_credits, token_advantages
from slm_math.types import Generate, Problem, Reply, Task, Trace, Turn, user

BOTH = ("solver", "judge")


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
    return [[scored(module, task, trace(tokens)) for tokens in group] for group in replies]


def scored(module: Any, task: Task, trace: Trace) -> Rollout:
    graded = grade_trace(task, trace)
    return Rollout.of(graded, score(module.rewards, graded, module.train_roles))


def advantages(module: Any, *replies: list[list[int]]) -> dict[int, float]:
    """The last token of each rollout -> its advantage."""
    made = groups(module, *replies)
    rows = training_rows(made, module.train_roles)
    by_role = module.assign_advantages(made, rows, torch.zeros(len(rows)))
    by_token = token_advantages(rows, by_role).split(token_counts(rows).tolist())
    assert all(len(set(own.tolist())) == 1 for own in by_token)
    return {row.ids[-1]: own[0].item() for row, own in zip(rows, by_token)}


def test_missing_reward_has_no_advantage() -> None:
    module = grpo(rewards=[Unscored()], advantage=Advantage(scale="none"), group_size=3)
    assert advantages(module, [[4], [6], [7]]) == {4: 0.5, 6: 0.0, 7: -0.5}


def test_rewards_of_a_role_are_added_up_and_a_silent_one_is_missing() -> None:
    module = grpo(rewards=[Even(weight=0.5), Constant(weight=2.0)])
    [[one, other]] = groups(module, [[4], [5]])
    assert [one.rewards, other.rewards] == [{"solver": 1.0}, {"solver": 0.5}]
    assert one.parts == {"solver": {"even": 1.0, "constant": 0.25}}
    silent = grpo(rewards=[Even(), Even(role="judge")], agent=Duo(), train_roles=BOTH)
    [[one]] = groups(silent, [[4]])
    assert math.isnan(one.rewards["judge"])


def test_rewards_keep_all_their_digits() -> None:
    class Large(Even):
        def __call__(self, graded: GradedTrace) -> float:
            return 1e8 + super().__call__(graded)

    values = advantages(grpo(rewards=[Large()], group_size=2), [[4], [5]])
    assert values == pytest.approx({4: 0.7070, 5: -0.7070}, abs=1e-3)


class LastTurn(Even):
    """Even, and all of it the merit of the last turn."""

    def __call__(self, graded: GradedTrace) -> Credit:  # type: ignore[override]
        number = super().__call__(graded)
        turns = len(graded.trace.turns)
        return Credit(number, (*[0.0] * (turns - 1), 1.0))


def two_turns(first: list[int], second: list[int]) -> Trace:
    one = Reply("", tuple(first), (-1.0,) * len(first), "stop", (1, 2))
    prompt = (1, 2, *first, 3)
    other = Reply("", tuple(second), (-1.0,) * len(second), "stop", prompt)
    turns = tuple(Turn(Generate(user("x")), reply) for reply in (one, other))
    return Trace(Problem("p", "x"), 0, turns, None)


def test_credits_move_the_advantage_between_turns_and_keep_its_sum() -> None:
    """A rollout of 3 + 2 loss tokens: the second turn's two tokens carry what all five would."""
    module = grpo(rewards=[LastTurn()], advantage=Advantage(scale="none"), group_size=2)
    task = Task(Problem("p", "x"), "1")
    traces = [two_turns([4, 5, 5], [6, 7]), two_turns([5, 5, 5], [7, 7])]
    made = [[scored(module, task, each) for each in traces]]
    rows = training_rows(made, module.train_roles)
    by_role = module.assign_advantages(made, rows, torch.zeros(len(rows)))
    plain = token_advantages(rows, by_role)
    credited = token_advantages(rows, by_role, given_credits(made[0], None))
    assert credited[:5].tolist() == pytest.approx([0, 0, 0, *[plain[0].item() * 5 / 2] * 2])
    for own, with_credits in zip(plain.split(5), credited.split(5)):
        assert own.sum().item() == pytest.approx(with_credits.sum().item())
        assert own.sum().item() != 0


class FirstTurn(Reward):
    """One for a first turn that begins with 4; the merit of the first turn."""

    def __call__(self, graded: GradedTrace) -> Credit:
        first = graded.trace.turns[0].reply.token_ids[0] == 4
        return Credit(float(first), (1.0, 0.0))


def test_with_advantages_per_part_each_part_is_credited_to_its_own_turns() -> None:
    """The first turn of three tokens is wrong and the second of two is right, and the reverse: one
    credit for both parts could only give both turns the same sign.
    """
    how = Advantage(scale="none", per_part=True, eps=0.0)
    module = grpo(rewards=[FirstTurn(), LastTurn(weight=3.0)], advantage=how, group_size=2)
    task = Task(Problem("p", "x"), "1")
    traces = [two_turns([5, 5, 4], [6, 8]), two_turns([4, 4, 5], [7, 8])]
    made = [[scored(module, task, each) for each in traces]]
    assert [each.rewards["solver"] for each in made[0]] == [3.0, 1.0]
    rows = training_rows(made, module.train_roles)
    values = module.signals(
        made, rows, module.assign_advantages(made, rows, torch.zeros(len(rows))), None
    ).advantages
    # A = -+0.5 of the first part, +-1.5 of the second; their sums +-1 have the deviation sqrt(2)
    root = math.sqrt(2)
    first, second = -0.5 / root * 5 / 3, 1.5 / root * 5 / 2
    expected = [first] * 3 + [second] * 2 + [-first] * 3 + [-second] * 2
    assert values.tolist() == pytest.approx(expected, abs=1e-6)
