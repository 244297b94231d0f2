"""Rewards that ask a model: workflows of many traces, driven together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from rewards.traces import MATH, NO, PARTS, RIGHT, WRONG, YES, say, trace

from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.rewards import (
    AsksJudge,
    Correct,
    Credit,
    Format,
    Reward,
    VerifierDecision,
    check,
    score,
)
from slm_math.rollout.executors import Executors
from slm_math.rollout.scoring import score_traces
from slm_math.types import (
    Generate,
    Note,
    Problem,
    Reply,
    RunPython,
    RunResult,
    Sampling,
    Task,
    Trace,
    Workflow,
    user,
)


class Judge(Engine):
    """Answers all open requests at every poll, by a function of the request."""

    def __init__(self, answer: Callable[[Request], Reply | EngineError]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.open: list[int] = []
        self.polls: list[int] = []  # how many requests were open at each

    def submit(self, request: Request) -> int:
        self.requests.append(request)
        self.open.append(len(self.requests) - 1)
        return len(self.requests) - 1

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Any]]:
        self.polls.append(len(self.open))
        done, self.open = self.open, []
        return [(ticket, self.answer(self.requests[ticket])) for ticket in done]

    def cancel(self, ticket: int) -> None:
        self.open.remove(ticket)


class Shell(Judge):
    def identity(self) -> dict[str, Any]:
        return {}


class Raising(Reward):
    def __call__(self, graded: GradedTrace) -> float:
        return float("abc")


def test_an_error_names_the_reward_and_the_problem() -> None:
    graded = grade_trace(MATH, trace(RIGHT))
    with pytest.raises(ValueError, match="could not convert") as caught:
        score([Raising()], graded, ["solver"])
    assert caught.value.__notes__ == ["in reward Raising on problem p/1, sample 0"]


class Twice(Reward):
    """Asks about every reply of its role, then once more about all; credits what it liked."""

    roles = ("judge",)

    def __call__(self, graded: GradedTrace) -> Workflow[Credit]:
        replies = [t.reply for t in graded.trace.turns if t.request.role == self.role]
        opinions = yield [Generate(user(reply.text), "judge") for reply in replies]
        [whole] = yield [Generate(user("all"), "judge")]
        weights = tuple(float(opinion.text == "good") for opinion in opinions)
        return Credit(float(whole.text), weights)


class Runs(Reward):
    """The number that a program prints."""

    uses_python = True

    def __call__(self, graded: GradedTrace) -> Workflow[float]:
        [result] = yield [RunPython("print(2.5)")]
        return float(result.stdout)


def likes(request: Request) -> Reply:
    text = request.chat[0].text
    return Reply("0.5" if text == "all" else "good" if text == RIGHT else "bad")


def executors(judge: Engine, sandbox: Any = None) -> Executors:
    return Executors({"judge": judge}, {"default": Sampling(max_new_tokens=9)}, sandbox)


def many(count: int, *events: Any) -> list[GradedTrace]:
    traces = []
    for i in range(count):
        task = Task(Problem(f"p/{i // 2}", "What is 3 + 4?"), "7")
        one = trace(*events, task=task)
        traces.append(
            grade_trace(task, Trace(one.problem, i % 2, one.events, one.answer, one.error))
        )
    return traces


def test_workflows_of_all_traces_are_batched() -> None:
    judge = Judge(likes)
    found = score_traces(
        [Correct(), Twice(weight=2.0)], many(6, WRONG, YES, RIGHT), ("solver",), executors(judge)
    )
    assert judge.polls == [12, 6]
    assert len(found) == 6
    for scores in found:
        assert scores.parts == {"solver": {"correct": 1.0, "twice": 0.5}}
        assert scores.totals == {"solver": 2.0}
        assert scores.credits == {"solver": {0: 0.0, 2: 1.0}}
        assert scores.errors == {}


def test_keys_of_rewards_are_a_space_of_their_own() -> None:
    judge = Judge(likes)
    score_traces([Twice()], many(3, RIGHT), ("solver",), executors(judge), key=("train", 7, 3))
    assert [request.key for request in judge.requests] == [
        ("reward", "train", 7, 3, "solver", "twice", problem, sample, number)
        for number in (1, 2)
        for problem, sample in (("p/0", 0), ("p/0", 1), ("p/1", 0))
    ]
    assert {request.support for request in judge.requests} == {False}
    assert {request.sampling.max_new_tokens for request in judge.requests} == {9}


def test_judge_that_is_down_leaves_a_part_without_a_score() -> None:
    def answer(request: Request) -> Reply | EngineError:
        if request.key[3:5] == ("p/0", 1):
            return EngineError("judge: no response")
        return likes(request)

    first, broken = score_traces(
        [Correct(), Twice()], many(2, RIGHT), ("solver",), executors(Judge(answer))
    )
    assert first.totals == {"solver": 1.5}
    assert broken.parts["solver"] == pytest.approx({"correct": 1.0, "twice": math.nan}, nan_ok=True)
    assert math.isnan(broken.totals["solver"])
    assert broken.errors == {"solver": {"twice": "judge: no response"}}
    assert broken.credits == {}


def test_judge_that_is_down_does_not_matter_to_a_part_that_is_only_logged() -> None:
    judge = Judge(lambda request: EngineError("down"))
    rewards = [Correct(), Twice(weight=0.0)]
    [scores] = score_traces(rewards, many(1, RIGHT), ("solver",), executors(judge))
    assert scores.totals == {"solver": 1.0}
    assert scores.errors == {"solver": {"twice": "down"}}


def test_broken_and_silent_traces_are_not_sent_to_the_judge() -> None:
    judge = Judge(likes)
    broken = grade_trace(MATH, trace(RIGHT, error="endpoint down"))
    silent = grade_trace(MATH, trace(say("VERDICT: CORRECT", "verifier")))
    found = score_traces([Twice()], [broken, silent], ("solver",), executors(judge))
    assert [math.isnan(scores.totals["solver"]) for scores in found] == [True, True]
    assert not judge.requests


def test_reward_may_run_programs() -> None:
    shell = Shell(lambda request: RunResult(True, "2.5\n"))  # type: ignore[arg-type, return-value]
    [scores] = score_traces(
        [Runs()], many(1, RIGHT), ("solver",), executors(Judge(likes), sandbox=shell)
    )
    assert scores.totals == {"solver": 2.5}
    with pytest.raises(ValueError, match="reward Runs runs Python, and there is no sandbox"):
        score_traces([Runs()], many(1, RIGHT), ("solver",), executors(Judge(likes)))


def test_progress_counts_traces_whose_rewards_are_all_known() -> None:
    seen: list[tuple[int, int]] = []
    score_traces(
        [Correct(), Twice()],
        many(3, RIGHT),
        ("solver",),
        executors(Judge(likes)),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 3)] * 4 + [(1, 3), (2, 3), (3, 3)]


def test_progress_of_plain_rewards() -> None:
    seen: list[int] = []
    score_traces(
        [Correct()],
        many(3, RIGHT),
        ("solver",),
        executors(Judge(likes)),
        progress=lambda done, total: seen.append(done),
    )
    assert seen == [0, 1, 2, 3]


def test_bug_in_a_reward_names_it_and_the_problem() -> None:
    class Buggy(Twice):
        def __call__(self, graded: GradedTrace) -> Workflow[Credit]:
            yield [Generate(user("all"), "judge")]
            raise KeyError("oops")

    with pytest.raises(KeyError) as caught:
        score_traces([Buggy()], many(1, RIGHT), ("solver",), executors(Judge(likes)))
    assert caught.value.__notes__ == ["in reward Buggy on problem p/0, sample 0"]


def test_reward_that_asks_a_role_that_it_does_not_name_is_an_error() -> None:
    class Sly(Twice):
        roles = ()

    with pytest.raises(ValueError, match="reward Sly asks for role 'judge'"):
        score_traces([Sly()], many(1, RIGHT), ("solver",), executors(Judge(likes)))


def test_what_a_reward_asks_for_is_checked_before_training() -> None:
    check([Correct(), Twice()], ("solver",), {"solver", "judge"})
    with pytest.raises(ValueError, match=r"Twice asks for role 'judge'.*set engines\.judge"):
        check([Correct(), Twice()], ("solver",), {"solver"})


def test_without_engines_a_reward_that_asks_stays_without_a_score() -> None:
    scores = score([Correct(), Twice()], many(1, RIGHT)[0], ("solver",))
    assert scores.parts["solver"]["correct"] == 1.0
    assert math.isnan(scores.totals["solver"])
    assert "asks a model" in scores.errors["solver"]["twice"]


@pytest.mark.parametrize("value", [math.inf, "many", "1.0", [1.0]])
def test_score_that_is_no_number_is_an_error(value: Any) -> None:
    class Odd(Reward):
        def __call__(self, graded: GradedTrace) -> Any:
            yield [Generate(user("all"), "judge")]
            return value

    Odd.roles = ("judge",)
    with pytest.raises(ValueError, match=r"reward 'odd' of role 'solver' is .* for problem p/0"):
        score_traces([Odd()], many(1, RIGHT), ("solver",), executors(Judge(likes)))


def test_former_signature_says_what_is_new() -> None:
    with pytest.raises(TypeError, match=r"reward Old: .*def __call__\(self, graded\)"):

        class Old(Reward):
            def __call__(self, task: Task, trace: Trace) -> float:  # type: ignore[override]
                return 1.0


@pytest.mark.parametrize(
    ("opinion", "finish", "expected"),
    [
        ("Fine. VERDICT: CORRECT", "stop", 1.0),
        ("Step 2 is wrong.\nVERDICT: INCORRECT", "stop", -1.0),
        ("I cannot tell.", "stop", 0.25),
        ("VERDICT: CORRECT or VERDICT: INCORRECT", "stop", 0.25),
        ("Step 1 looks INCORRECT because", "length", 0.25),
        ("", "length", 0.25),
    ],
)
def test_asks_judge(opinion: str, finish: Any, expected: float) -> None:
    judge = Judge(lambda request: Reply(opinion, finish=finish))
    reward = AsksJudge(incorrect=-1.0, unclear=0.25)
    [scores] = score_traces([reward], many(1, WRONG, NO, RIGHT), ("solver",), executors(judge))
    assert scores.parts == {"solver": {"asks_judge": expected}}
    [request] = judge.requests
    assert request.sampling.temperature == 0
    for part in ("What is 3 + 4?", "Reference answer:\n7", f"{WRONG}\n\n{RIGHT}"):
        assert part in request.chat[0].text


def test_judge_prompt_with_an_unknown_slot_is_refused(tmp_path: Any) -> None:
    (tmp_path / "mine.txt").write_text("{problem} {answer}")
    with pytest.raises(ValueError, match="answer"):
        AsksJudge(str(tmp_path / "mine.txt"))


def test_rewards_never_grade_what_was_graded(graded_answers: list[str | None]) -> None:
    notes = (Note("draft", "8"), NO, Note("verdict", "INCORRECT", role="verifier"))
    events = (WRONG, *notes, RIGHT, Note("draft", "7"), YES, *notes[2:])
    rewards = [
        *(part() for part in PARTS),
        Correct(name="strict", finish=True, layout="boxed"),
        Format(name="lenient", wrong=0.5),
        VerifierDecision(role="solver", name="again"),
    ]
    [graded] = many(1, *events)
    score_traces(rewards, [graded], ("solver", "verifier"), executors(Judge(likes)))
    assert sorted(map(str, graded_answers)) == ["7", "8"]
