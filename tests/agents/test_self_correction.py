"""Two attempts in one chat: what the second sees, which answer is final, what metrics see."""

import pytest
from agents.driving import box, cut, play
from agents.inputs import CHOICE, PICTURE, PICTURED, PROBLEM

from slm_math.agents import SelfCorrection
from slm_math.answers.graded import grade_trace
from slm_math.metrics.rounds import round_metrics
from slm_math.records.record import record
from slm_math.types import Reply, Task


def test_second_attempt_sees_the_first_and_its_answer_is_final() -> None:
    driven = play(SelfCorrection(), box(6), box(7))
    assert driven.steps == ["solver", "solver"]
    assert [message.role for message in driven.chat(1)] == ["user", "assistant", "user"]
    assert driven.chat(1)[:1] == driven.chat(0)
    assert driven.chat(1)[1].content == (box(6),)
    assert driven.answer == "7"
    assert driven.noted("draft") == ["6", "7"]


def test_request_for_the_second_attempt_is_the_same_for_right_and_wrong_answers() -> None:
    right, wrong = play(SelfCorrection(), box(7), box(7)), play(SelfCorrection(), box(6), box(7))
    assert right.shown(1) == wrong.shown(1)
    assert "7" not in right.shown(1)


@pytest.mark.parametrize("second", [Reply("I give up."), Reply(""), cut("Let me")])
def test_second_attempt_without_an_answer_leaves_none(second: Reply) -> None:
    driven = play(SelfCorrection(), box(7), second)
    assert driven.answer is None


@pytest.mark.parametrize(("first", "reason"), [(Reply(" "), "empty"), (cut("Let me"), "truncated")])
def test_unusable_first_attempt_ends_the_workflow(first: Reply, reason: str) -> None:
    driven = play(SelfCorrection(), first)
    assert (driven.answer, driven.noted("lost"), driven.noted("draft")) == (None, [reason], [])


def test_first_attempt_without_an_answer_may_be_corrected() -> None:
    driven = play(SelfCorrection(), Reply("No idea."), box(7))
    assert (driven.answer, driven.noted("draft")) == ("7", [None, "7"])


def test_temperature_is_that_of_both_attempts() -> None:
    assert play(SelfCorrection(), box(6), box(7)).temperatures == [None, None]
    assert play(SelfCorrection(temperature=0.3), box(6), box(7)).temperatures == [0.3, 0.3]


def test_a_template_of_ones_own_may_show_the_problem_again() -> None:
    driven = play(SelfCorrection(correct_prompt="solve"), box("A"), box("B"), problem=CHOICE)  # type: ignore[arg-type]
    assert CHOICE.statement in driven.shown(1)
    with pytest.raises(ValueError, match=r"correct_prompt: template 'verify' has the slot"):
        SelfCorrection(correct_prompt="verify")  # type: ignore[arg-type]


def test_image_stays_in_the_first_message() -> None:
    driven = play(SelfCorrection(), box(6), box(7), problem=PICTURED)
    assert [PICTURE in message.content for message in driven.chat(1)] == [True, False, False]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [(7, 7, "stayed_right"), (6, 7, "improved"), (7, 6, "degraded"), (6, 5, "failed")],
)
def test_metrics_tell_the_two_attempts_apart(first: int, second: int, outcome: str) -> None:
    trace = play(SelfCorrection(), box(first), box(second)).trace
    metrics = round_metrics([record(grade_trace(Task(PROBLEM, "7"), trace))])
    shares = {name: metrics[name] for name in ("stayed_right", "improved", "degraded", "failed")}
    assert shares == {name: float(name == outcome) for name in shares}
    assert metrics["rounds"] == 2
    assert (metrics["round_1/accuracy"], metrics["round_2/accuracy"]) == (first == 7, second == 7)
