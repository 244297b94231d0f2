"""What is kept, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from slm_math.agents import SingleShot
from slm_math.rewards import Correct, Reward
from slm_math.synthesis.accept import Above, Accept, CodeVerified, Majority, Right, Ruling
from slm_math.types import (
    Generate,
    Note,
    Problem,
    Reply,
    Run,
    RunPython,
    RunResult,
    Task,
    Trace,
    Turn,
    user,
)

TASK = Task(Problem("p/1", "What is 3 + 4?"), "7")
PROGRAM = "```python\nprint(3 + 4)\n```\n"


def trace(
    text: str, answer: str | None = "7", finish: Any = "stop", runs: Sequence[Run] = ()
) -> Trace:
    turn = Turn(Generate(user(TASK.problem.text)), Reply(text, finish=finish))
    return Trace(TASK.problem, 0, (turn, *runs), answer)


def ruling(
    accept: Accept,
    *traces: Trace,
    result: RunResult | None = None,
    tries: int = 1,
    task: Task = TASK,
) -> Ruling:
    judged = accept.judge(task, traces, tries)
    if isinstance(judged, Ruling):
        return judged
    try:
        [request] = next(judged)
        assert isinstance(request, RunPython)
        judged.send([result])
    except StopIteration as end:
        return end.value
    raise AssertionError("one program at most")


def test_right_is_what_the_grader_says() -> None:
    assert ruling(Right(), trace(r"\boxed{7}")) == Ruling(True, "equal")
    assert ruling(Right(), trace(r"\boxed{8}", "8")) == Ruling(False, "different")
    assert ruling(Right(), trace("none", None)) == Ruling(False, "no answer")


@pytest.mark.parametrize("accept", [Right(), CodeVerified(), Above(Correct(), 0.0)])
def test_solution_that_hits_the_token_limit_is_not_kept(accept: Accept) -> None:
    assert ruling(accept, trace(r"\boxed{7} and so on", finish="length")) == Ruling(
        False, "truncated"
    )


def test_truncation_of_another_reply_does_not_matter() -> None:
    whole = trace(r"\boxed{7}")
    later = Turn(Generate(user("Sure?")), Reply("Let me", finish="length"))
    assert ruling(Right(), Trace(TASK.problem, 0, (*whole.events, later), "7")).accepted


def test_program_must_print_the_answer() -> None:
    solution = trace(PROGRAM + r"\boxed{7}")
    assert ruling(CodeVerified(), solution, result=RunResult(True, "7\n")) == Ruling(
        True, "equal", printed="7"
    )
    assert ruling(CodeVerified(), solution, result=RunResult(True, "8\n")) == Ruling(
        False, "the program printed another value", printed="8"
    )


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (RunResult(False, error="line 1: NameError: x"), "line 1: NameError: x"),
        (RunResult(True, ""), "the program printed nothing"),
    ],
)
def test_program_that_prints_no_value_verifies_nothing(result: RunResult, reason: str) -> None:
    assert ruling(CodeVerified(), trace(PROGRAM + r"\boxed{7}"), result=result) == Ruling(
        False, reason
    )


def test_solution_without_a_program_is_not_verified() -> None:
    assert ruling(CodeVerified(), trace(r"\boxed{7}")) == Ruling(False, "no program")


def test_program_is_not_run_for_a_wrong_answer() -> None:
    assert ruling(CodeVerified(), trace(PROGRAM + r"\boxed{8}", "8")) == Ruling(False, "different")


def test_program_that_the_agent_ran_counts_and_is_not_run_again() -> None:
    ran = Run("print(7)", RunResult(True, "7\n"))
    assert ruling(CodeVerified(), trace(r"\boxed{7}", runs=[ran])).printed == "7"


def test_value_that_equals_the_reference_but_not_the_answer_does_not_verify() -> None:
    # 50 % is 50 and 0.5; 50 is not 0.5
    task = Task(Problem("p/2", "How many percent?"), "50%")
    solution = trace(PROGRAM + r"\boxed{50}", "50")
    assert not ruling(CodeVerified(), solution, result=RunResult(True, "0.5"), task=task).accepted


class Letters(Reward):
    """The number of characters of the reply."""

    def __call__(self, graded: Any) -> float:
        return float(len(graded.trace.turns[0].reply.text))


def test_score_must_be_above_the_bound() -> None:
    accept = Above(Letters(), 4.0)
    assert ruling(accept, trace("12345")) == Ruling(True, "score 5", score=5.0)
    assert ruling(accept, trace("1234")) == Ruling(False, "score 4", score=4.0)


def test_weighted_sum_of_several_rewards_must_be_above_the_bound() -> None:
    accept = Above([Letters(weight=0.5), Correct(right=2.0, weight=10.0)], 22.0)
    assert ruling(accept, trace("12345")) == Ruling(True, "score 22.5", score=22.5)
    assert ruling(accept, trace("12345", "8")) == Ruling(False, "score 2.5", score=2.5)
    assert ruling(Above([Letters(weight=0), Correct()], 0.5), trace("12345")).score == 1


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([Letters(), Letters(weight=2.0)], "two rewards of role 'solver' are called 'letters'"),
        ([Letters(), Correct(role="judge")], "Correct is for role 'judge'"),
        ([], "no reward counts"),
        ([Letters(weight=0.0)], "no reward counts"),
    ],
)
def test_rewards_that_make_no_sum_are_refused(rewards: list[Reward], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Above(rewards, 0.5).check(SingleShot(), 1)


class Silent(Reward):
    """No score at all."""

    def __call__(self, graded: Any) -> None:
        return None


def test_missing_score_keeps_nothing() -> None:
    assert ruling(Above(Silent(), -9.0), trace("1")) == Ruling(False, "no score")


def votes(*answers: str | None) -> list[Trace]:
    return [trace("text", answer) for answer in answers]


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        (("7", "8", "7.0", "9"), 0),  # half of all
        (("8", "7", r"\frac{14}{2}", "7"), 1),
        (("7", "8", "7", "8"), None),  # as many as of another
        (("7", None, None, None), None),  # one agrees with itself
        (("7", "8", "9", "7", "1"), None),  # two of five are less than half
        ((None, None), None),
    ],
)
def test_majority(answers: Sequence[str | None], kept: int | None) -> None:
    decided = ruling(Majority(), *votes(*answers), tries=len(answers))
    assert (decided.chosen if decided.accepted else None) == kept


def test_majority_waits_for_all_tries() -> None:
    assert ruling(Majority(), *votes("7", "7"), tries=3) == Ruling(False, "a vote")


def test_truncated_solution_has_no_vote() -> None:
    traces = [*votes("7", "8", "8"), trace("text", "7", finish="length")]
    decided = ruling(Majority(), *traces, tries=4)
    assert (decided.accepted, decided.chosen, decided.reason) == (True, 1, "no vote")


def test_notes_are_no_part_of_a_ruling() -> None:
    noted = Trace(TASK.problem, 0, (*trace(r"\boxed{7}").events, Note("draft", "8")), "7")
    assert ruling(Right(), noted).accepted
