"""Short steps with code."""

from typing import Any

import pytest
from agents.driving import box, code, cut, play, printed
from agents.inputs import CHOICE, FAILED, PICTURE, PICTURED, PROBLEM, SILENT, STOPPED

from slm_math.agents import StepByStepCode
from slm_math.types import Reply, RunPython


def test_steps_until_the_answer() -> None:
    driven = play(StepByStepCode(), code("a = 3"), SILENT, code("print(a + 4)"), printed(7), box(7))
    assert driven.steps == ["solver", "run"] * 2 + ["solver"]
    assert driven.temperatures == [None] * 3
    assert PROBLEM.text in driven.shown(0)
    assert driven.requests[3] == [RunPython("print(a + 4)", ("a = 3",))]
    assert [message.role for message in driven.chat(4)] == ["user", "assistant"] * 2 + ["user"]
    assert "7" in driven.shown(4)
    assert driven.answer == "7"


def test_eight_steps_at_most_and_then_the_answer() -> None:
    driven = play(
        StepByStepCode(), *[code(), printed(7)] * 8, Reply(code().text + r" so \boxed{7}")
    )
    assert driven.steps.count("run") == 8
    assert "next step" in driven.shown(14)
    assert "next step" not in driven.shown(16)
    assert driven.answer == "7"


def test_what_is_printed_is_no_answer() -> None:
    assert play(StepByStepCode(steps=1), code(), printed(r"\boxed{7}"), Reply("Hm.")).answer is None


def test_no_step_at_all() -> None:
    assert play(StepByStepCode(), box(7)).answer == "7"
    assert play(StepByStepCode(), Reply("no idea")).answer is None


@pytest.mark.parametrize(
    ("result", "shown"), [(FAILED, "NameError"), (STOPPED, "stopped after 5 s")]
)
def test_errors_are_shown_and_count_as_steps(result: Any, shown: str) -> None:
    driven = play(StepByStepCode(steps=1), code(), result, box(7))
    assert shown in driven.shown(2)
    assert driven.answer == "7"


def test_a_stopped_step_is_forgotten() -> None:
    driven = play(
        StepByStepCode(),
        code("a = 1"),
        SILENT,
        code("while a: pass"),
        STOPPED,
        code("a"),
        SILENT,
        box(1),
    )
    assert driven.requests[5][0].earlier == ("a = 1",)


@pytest.mark.parametrize("lost", [Reply(""), Reply("\n"), cut("Let me"), cut("```python\nprint(")])
def test_a_lost_step_is_asked_for_again(lost: Reply) -> None:
    driven = play(StepByStepCode(steps=1), code(), printed(7), lost, box(7))
    assert (driven.answer, len(driven.noted("lost"))) == ("7", 1)
    assert driven.chat(3) == driven.chat(2)
    assert play(StepByStepCode(), lost, lost).answer is None


def test_truncated_replies_that_are_complete_count() -> None:
    driven = play(StepByStepCode(), cut(code().text + "\nNext"), printed(7), cut(r"\boxed{7} an"))
    assert (driven.answer, driven.noted("lost")) == ("7", [])


def test_an_option_is_an_answer() -> None:
    assert (
        play(
            StepByStepCode(), code(), printed(7), Reply("The answer is (B)."), problem=CHOICE
        ).answer
        is not None
    )


def test_images_are_in_the_first_prompt() -> None:
    driven = play(StepByStepCode(), code(), printed(7), box(7), problem=PICTURED)
    assert [PICTURE in message.content for message in driven.chat(2)] == [True, False, False]


@pytest.mark.parametrize("options", [{"steps": 0}, {"prompt": "nope"}, {"step_prompt": "verify"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"StepByStepCode|nope|verify"):
        StepByStepCode(**options)
