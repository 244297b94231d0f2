"""Names, sums and checks of rewards."""

import math

import pytest
from rewards.traces import EMPTY, MATH, RIGHT, YES, say, trace

from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.rewards import (
    CodeRan,
    Correct,
    Format,
    Length,
    Reward,
    Scores,
    VerifierDecision,
    check,
    score,
)
from slm_math.types import Trace


class TwoWords(Reward):
    def __call__(self, graded: GradedTrace) -> float | None:
        return None if graded.trace.answer is None else 2.0


class OwnInit(Reward):
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, graded: GradedTrace) -> float:
        return self.scale


class Named(OwnInit):
    name = "mine"


def scores(parts: list[Reward], what: Trace, role: str = "solver") -> Scores:
    return score(parts, grade_trace(MATH, what), (role,))


def test_names() -> None:
    named = (CodeRan(), TwoWords(), OwnInit(1), Named(1), TwoWords(name="other"), TwoWords())
    assert [r.name for r in named] == [
        "code_ran",
        "two_words",
        "own_init",
        "mine",
        "other",
        "two_words",
    ]


def test_a_reward_without_the_base_initializer_has_the_defaults() -> None:
    parts = [OwnInit(3.0), TwoWords(weight=0.5)]
    check(parts, ("solver",))
    found = scores(parts, trace(RIGHT))
    assert found.parts == {"solver": {"own_init": 3.0, "two_words": 2.0}}
    assert found.totals == {"solver": 4.0}


def test_a_broken_or_silent_trace_has_no_reward() -> None:
    parts = [Correct(), Format()]
    for what in (trace(RIGHT, error="endpoint down"), trace(say(RIGHT, "verifier"))):
        found = scores(parts, what)
        assert found.parts["solver"] == pytest.approx(
            {"correct": math.nan, "format": math.nan}, nan_ok=True
        )
        assert math.isnan(found.totals["solver"])


def test_a_role_gets_its_own_rewards() -> None:
    parts = [Correct(), VerifierDecision()]
    found = scores(parts, trace(RIGHT, YES), "verifier")
    assert found.parts == {"verifier": {"verifier_decision": 1.0}}


def test_none_spoils_the_sum_only_where_it_counts() -> None:
    for weight, expected in ((1.0, math.nan), (0.0, 0.0)):
        parts = [Correct(), TwoWords(weight=weight)]
        found = scores(parts, trace(EMPTY))
        assert math.isnan(found.parts["solver"]["two_words"])
        assert found.totals["solver"] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("parts", "roles", "message"),
    [
        ([Length(), Length(shape="brief")], ("solver",), "set name of Length"),
        (
            [VerifierDecision(), Correct()],
            ("solver",),
            "VerifierDecision is for role 'verifier', but the trained roles are solver",
        ),
        ([Correct()], ("solver", "verifier"), "role 'verifier' is trained but has no reward"),
        (
            [Correct(weight=0.0)],
            ("solver",),
            "role 'solver' is trained but has no reward with a weight",
        ),
    ],
)
def test_check(parts: list[Reward], roles: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(parts, roles)


def test_check_allows_one_name_for_two_roles() -> None:
    check([Correct(), Correct(role="verifier"), Length(name="long")], ("solver", "verifier"))
