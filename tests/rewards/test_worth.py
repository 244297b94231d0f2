"""The worth of turns by sampled continuations, where it can be written down."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from evaluation.one_by_one import OneByOne

from slm_math.agents import Agent, SelfCorrection, SingleShot
from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.engines.base import Request
from slm_math.rewards import TurnWorth
from slm_math.rollout.scheduler import Executors
from slm_math.rollout.scoring import score_traces
from slm_math.testing import drive
from slm_math.types import Problem, Reply, Sampling, Task

TASK = Task(Problem("p/0", "What is 3 + 4?"), "7")
RIGHT, WRONG = r"\boxed{7}", r"\boxed{8}"
Say = Callable[[Request], str]


def played(*replies: str) -> GradedTrace:
    return grade_trace(TASK, drive(SelfCorrection(), TASK.problem, replies).trace)


def credits(
    graded: GradedTrace, say: Say, draws: int = 4, agent: Agent = SelfCorrection()
) -> tuple[Any, Any, OneByOne]:
    """Credits and blame of the turns of a trace, and the engine that was asked."""
    engine = OneByOne(say)
    executors = Executors({"default": engine}, {"default": Sampling(1.0)})
    [scores] = score_traces([TurnWorth(agent, draws)], [graded], ["solver"], executors)
    return scores.credits.get("solver"), scores.blame.get("solver"), engine


def repeats(request: Request) -> str:
    """The first attempt is wrong; the second repeats the first."""
    return WRONG if len(request.chat) == 1 else request.chat[1].text


def test_a_turn_that_changes_nothing_earns_nothing() -> None:
    earned, blamed, _ = credits(played(RIGHT, RIGHT), repeats)
    assert earned == {0: 1.0, 1: 0.0}
    assert blamed is None or blamed == {}


def test_a_turn_that_repairs_earns_all() -> None:
    """Whatever the first attempt is, the second is right only half of the time."""
    replies = iter([RIGHT, WRONG] * 100)

    def second(request: Request) -> str:
        return WRONG if len(request.chat) == 1 else next(replies)

    earned, _, _ = credits(played(WRONG, RIGHT), second)
    assert earned == {0: 0.0, 1: 1.0}


def test_a_turn_that_spoils_is_blamed() -> None:
    def always(request: Request) -> str:
        return RIGHT

    earned, blamed, _ = credits(played(RIGHT, WRONG), always)
    assert (earned, blamed) == ({}, {0: 0.0, 1: 1.0}) or (earned, blamed) == (
        None,
        {0: 0.0, 1: 1.0},
    )


@pytest.mark.parametrize("first", [RIGHT, WRONG])
def test_the_worth_is_the_difference_of_expected_outcomes(first: str) -> None:
    """The first attempt is right with 0.5; the second with 0.9 after a right one, with 0.3 after a
    wrong one: 0.6 at the beginning. The trace ends right.
    """
    draw = random.Random(0)

    def say(request: Request) -> str:
        chance = 0.5
        if len(request.chat) > 1:
            chance = 0.9 if request.chat[1].text == RIGHT else 0.3
        return RIGHT if draw.random() < chance else WRONG

    earned, blamed, _ = credits(played(first, RIGHT), say, draws=2000)
    if first == RIGHT:  # 0.3 and 0.1
        assert earned == pytest.approx({0: 0.75, 1: 0.25}, abs=0.06)
    else:  # -0.3 and 0.7
        assert earned == {0: 0.0, 1: 1.0}
        assert blamed == {0: 1.0, 1: 0.0}


def test_known_replies_are_not_sampled_again() -> None:
    """From the beginning both attempts, after the first one only the second; the end is known."""
    _, _, engine = credits(played(RIGHT, RIGHT), lambda request: RIGHT, draws=3)
    assert sorted(len(request.chat) for request in engine.requests) == [1] * 3 + [3] * 6
    assert {request.key[0] for request in engine.requests} == {"reward"}


def test_another_agent_is_refused() -> None:
    with pytest.raises(ValueError, match="TurnWorth's agent asks for something else"):
        credits(played(RIGHT, RIGHT), repeats, agent=SelfCorrection(prompt="solve_plain"))


def test_of_a_single_reply_all_credit_is_its_own() -> None:
    trace = drive(SingleShot(), TASK.problem, [Reply(RIGHT)]).trace
    earned, _, engine = credits(grade_trace(TASK, trace), lambda request: WRONG, agent=SingleShot())
    assert earned == {0: 1.0}
    assert len(engine.requests) == 4
