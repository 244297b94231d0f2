"""Names, sums and checks of rewards."""

import math

import pytest
from rewards.traces import EMPTY, MATH, RIGHT, YES, say, trace

from slm_math.rewards import (
    CodeRan,
    Correct,
    Format,
    Length,
    Reward,
    VerifierDecision,
    check,
    score,
    total,
)
from slm_math.types import Task, Trace


class TwoWords(Reward):
    def __call__(self, task: Task, trace: Trace) -> float | None:
        return None if trace.answer is None else 2.0


class OwnInit(Reward):
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, task: Task, trace: Trace) -> float:
        return self.scale


class Named(OwnInit):
    name = "mine"


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


def test_a_reward_without_the_base_initialiser_has_the_defaults() -> None:
    parts = [OwnInit(3.0), TwoWords(weight=0.5)]
    check(parts, ("solver",))
    found = score(parts, MATH, trace(RIGHT), "solver")
    assert found == {"own_init": 3.0, "two_words": 2.0}
    assert total(parts, found, "solver") == 4.0


def test_a_broken_or_silent_trace_has_no_reward() -> None:
    parts = [Correct(), Format()]
    for what in (trace(RIGHT, error="endpoint down"), trace(say(RIGHT, "verifier"))):
        assert score(parts, MATH, what, "solver") == pytest.approx(
            {"correct": math.nan, "format": math.nan}, nan_ok=True
        )


def test_a_role_gets_its_own_rewards() -> None:
    parts = [Correct(), VerifierDecision()]
    assert score(parts, MATH, trace(RIGHT, YES), "verifier") == {"verifier_decision": 1.0}


def test_none_spoils_the_sum_only_where_it_counts() -> None:
    for weight, expected in ((1.0, math.nan), (0.0, 0.0)):
        parts = [Correct(), TwoWords(weight=weight)]
        found = score(parts, MATH, trace(EMPTY), "solver")
        assert math.isnan(found["two_words"])
        assert total(parts, found, "solver") == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("parts", "roles", "message"),
    [
        ([Length(), Length(shape="brief")], ("solver",), "set name of Length"),
        (
            [VerifierDecision(), Correct()],
            ("solver",),
            "VerifierDecision is for role 'verifier', and trained are solver",
        ),
        ([Correct()], ("solver", "verifier"), "role 'verifier' is trained and has no reward"),
        (
            [Correct(weight=0.0)],
            ("solver",),
            "role 'solver' is trained and has no reward that counts",
        ),
    ],
)
def test_check(parts: list[Reward], roles: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(parts, roles)


def test_check_allows_one_name_for_two_roles() -> None:
    check([Correct(), Correct(role="verifier"), Length(name="long")], ("solver", "verifier"))
