"""Credits distribute an advantage over turns, and never change what it sums to."""

from __future__ import annotations

import math
import random

import pytest
from rewards.traces import MATH, RIGHT, WRONG, YES, say, trace

from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.rewards import Correct, Credit, Reward, Scores, score, turn_factors
from slm_math.rewards.credits import combined
from slm_math.types import Trace


class Credits(Reward):
    """The same credit for every trace."""

    def __init__(self, *turns: float, number: float | None = 1.0, **common: object) -> None:
        super().__init__(**common)  # type: ignore[arg-type]
        self.number, self.turns = number, turns

    def __call__(self, graded: GradedTrace) -> Credit:
        return Credit(self.number, self.turns)


def scores(*rewards: Reward, what: Trace | None = None, roles: tuple[str, ...] = ("solver",)):
    what = what or trace(WRONG, YES, RIGHT)
    return score(rewards, grade_trace(MATH, what), roles)


@pytest.mark.parametrize("seed", range(20))
def test_advantages_of_all_tokens_sum_to_what_they_were(seed: int) -> None:
    draw = random.Random(seed)
    turns = draw.sample(range(20), draw.randint(1, 8))
    tokens = {turn: draw.choice([0, 1, 7, 500]) for turn in turns} | {99: 3}
    weights = {turn: draw.choice([0.0, 1e-300, 0.3, 1.0, 1e300]) for turn in turns} | {99: 0.5}
    factors = turn_factors(weights, tokens)
    advantage = draw.uniform(-3, 3)
    per_token = [advantage * factors[turn] for turn, n in tokens.items() for _ in range(n)]
    assert math.fsum(per_token) == pytest.approx(advantage * sum(tokens.values()), rel=1e-12)
    assert all(factor >= 0 for factor in factors.values())


@pytest.mark.parametrize(
    ("weights", "tokens", "factors"),
    [
        ({0: 1, 2: 1}, {0: 10, 2: 30}, {0: 1, 2: 1}),
        ({0: 3, 2: 1}, {0: 10, 2: 30}, {0: 2, 2: 2 / 3}),
        ({0: 1, 2: 0}, {0: 10, 2: 30}, {0: 4, 2: 0}),
        ({0: 2.0}, {0: 10}, {0: 1}),
        ({0: 1}, {0: 10, 2: 30}, {0: 4, 2: 0}),
        ({0: 1, 2: 1}, {0: 0, 2: 30}, {0: 1, 2: 1}),
    ],
    ids=["equal", "ratio", "one turn", "single", "unnamed is 0", "no tokens"],
)
def test_factors(weights: dict, tokens: dict, factors: dict) -> None:
    assert turn_factors(weights, tokens) == pytest.approx(factors)


@pytest.mark.parametrize("weights", [{}, {0: 0.0, 2: 0.0}, {0: 1.0, 2: 0.0}])
def test_without_a_preference_among_loss_tokens_factors_are_one(weights: dict) -> None:
    assert turn_factors(weights, {0: 0, 2: 30}) == {0: 1.0, 2: 1.0}


def test_equal_weights_change_no_bit() -> None:
    factors = turn_factors({0: 0.1, 1: 0.1, 2: 0.1}, {0: 3, 1: 7, 2: 11})
    assert set(factors.values()) == {1.0}


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_that_cannot_distribute_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        Credit(1.0, (0.5, weight))


def test_credits_of_a_role_name_turns_of_the_trace() -> None:
    found = scores(Credits(1, 3), Credits(1, role="verifier"), roles=("solver", "verifier"))
    assert found.credits == {"solver": {0: 0.25, 2: 0.75}, "verifier": {1: 1.0}}
    assert found.totals == {"solver": 1.0, "verifier": 1.0}


def test_reward_without_credits_has_no_preference() -> None:
    found: Scores = scores(Correct(), Credits(1, 3, weight=0.5))
    assert found.credits == {"solver": {0: 0.25, 2: 0.75}}
    assert found.totals == {"solver": 1.5}
    assert scores(Correct()).credits == {}


def test_several_credits_are_averaged_by_the_size_of_their_weights() -> None:
    pairs = [
        (1.0, Credit(0.0, (1, 1))),
        (-3.0, Credit(0.0, (8, 0))),
        (0.0, Credit(0.0, (0, 9))),
        (5.0, Credit(0.0, (0, 0))),
    ]
    assert combined(pairs) == pytest.approx((0.875, 0.125))


def test_credit_that_only_logs_or_prefers_nothing_is_left_out() -> None:
    assert scores(Credits(0, 0)).credits == {}
    assert scores(Credits(1, 3, weight=0.0), Correct()).credits == {}


def test_credit_may_come_without_a_score() -> None:
    found = scores(Credits(1, 3, number=None))
    assert math.isnan(found.totals["solver"])


def test_credit_must_fit_the_turns_of_its_role() -> None:
    message = "'credits' gives credit to 3 turns of role 'solver' for problem p/1.* has 2 turns"
    with pytest.raises(ValueError, match=message):
        scores(Credits(1, 2, 3))


def test_credit_of_a_silent_role_is_not_asked_for() -> None:
    found = scores(Credits(1, role="verifier"), what=trace(say(RIGHT)), roles=("verifier",))
    assert found.credits == {}
    assert math.isnan(found.totals["verifier"])
