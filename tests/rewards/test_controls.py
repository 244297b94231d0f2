"""Rewards of control arms: random ones that repeat, and rewards that see no truth."""

from __future__ import annotations

from dataclasses import replace

from rewards.traces import MATH, NUM, trace

from slm_math.answers.graded import grade_trace
from slm_math.rewards import AsksJudge, Correct, FormatOnly, Length, RandomReward
from slm_math.rollout.scheduler import Executors
from slm_math.rollout.scoring import score_traces
from slm_math.types import Problem, Task

KEY = ("train", 0, 0, 3)


def many(n: int, reply: str = "#### 7") -> list:
    tasks = [replace(MATH, problem=Problem(f"p/{i}", "What is 3 + 4?")) for i in range(n)]
    return [grade_trace(task, trace(reply, task=task)) for task in tasks]


def scores(graded: list, key: tuple = KEY, **options: float) -> list[float]:
    found = score_traces([RandomReward(**options)], graded, ("solver",), Executors({}, {}), key)
    return [each.totals["solver"] for each in found]


def test_a_random_reward_repeats_for_the_same_step_and_sample() -> None:
    assert scores(many(50)) == scores(list(reversed(many(50))))[::-1]


def test_a_random_reward_is_another_one_in_another_step_seed_and_sample() -> None:
    first = scores(many(50))
    assert scores(many(50), ("train", 0, 0, 4)) != first
    assert scores(many(50), ("train", 1, 0, 3)) != first
    other = [replace(one, trace=replace(one.trace, sample=1)) for one in many(50)]
    assert scores(other) != first


def test_a_random_reward_does_not_depend_on_what_was_said() -> None:
    assert scores(many(50, "#### 7")) == scores(many(50, "no idea"))


def test_a_random_reward_is_1_as_often_as_it_was_asked_to_be() -> None:
    assert abs(sum(scores(many(2000))) / 2000 - 0.5) < 0.05
    assert abs(sum(scores(many(2000), share=0.2)) / 2000 - 0.2) < 0.05


def test_format_only_pays_for_every_answer_that_can_be_read() -> None:
    reward = FormatOnly(Correct(right=1.0, wrong=-1.0, missing=-0.5))
    assert reward(grade_trace(MATH, trace("#### 7"))) == 1.0
    assert reward(grade_trace(MATH, trace("#### 8"))) == 1.0
    assert reward(grade_trace(MATH, trace("I cannot say."))) == -0.5
    assert reward(grade_trace(NUM, trace("It is \\boxed{long}.", task=NUM))) == -1.0


def test_format_only_leaves_the_rest_of_a_reward() -> None:
    inner = Length("brief", high=10, right=1.0, wrong=0.0, weight=0.3, name="short")
    reward = FormatOnly(inner)
    assert (reward.weight, reward.role, reward.name) == (0.3, "solver", "short")
    assert reward(grade_trace(MATH, trace("#### 8"))) == 1.0  # no tokens were counted


def test_format_only_shows_a_judge_no_reference_answer() -> None:
    task = Task(Problem("p/1", "What is 3 + 4?"), "777")
    reward = FormatOnly(AsksJudge())
    assert reward.roles == ("judge",)
    workflow = reward(grade_trace(task, trace("#### 8", task=task)))
    [request] = next(workflow)
    assert "777" not in request.chat[0].text
