"""An answer is put back into its problem; a program decides."""

from typing import Any

import pytest
from agents.driving import box, code, cut, play, printed
from agents.inputs import CHOICE, FAILED, PICTURE, PICTURED, PROBLEM, SILENT, STOPPED

from slm_math.agents import BackwardCheck
from slm_math.types import Reply, RunPython

TEST = code("print(3 + 4 == 7)")


def test_an_answer_that_holds_stands() -> None:
    driven = play(BackwardCheck(), box(7), TEST, printed("True"))
    assert driven.steps == ["solver", "solver", "run"]
    assert driven.temperatures == [None, None]
    assert [message.role for message in driven.chat(1)] == ["user"]
    assert PROBLEM.text in driven.shown(1)
    assert "answer: 7" in driven.shown(1)
    assert box(7).text not in driven.shown(1)
    assert driven.requests[2] == [RunPython("print(3 + 4 == 7)")]
    assert [(n.kind, n.text) for n in driven.notes] == [
        ("draft", "7"),
        ("verdict", "CORRECT"),
        ("stop", "accepted"),
    ]
    assert driven.answer == "7"


def test_an_answer_that_does_not_hold_is_tried_again_warm() -> None:
    driven = play(
        BackwardCheck(), box(6), TEST, printed("sum is 6\nFalse"), box(7), TEST, printed("True")
    )
    assert driven.steps == ["solver", "solver", "run"] * 2
    assert driven.temperatures == [None, None, 0.7, None]
    assert [message.role for message in driven.chat(3)] == ["user", "assistant", "user"]
    assert "sum is 6\nFalse" in driven.shown(3)
    assert (driven.answer, driven.noted("draft")) == ("7", ["6", "7"])


def test_endless_false_ends_after_three_drafts() -> None:
    script = [step for n in range(3) for step in (box(n), TEST, printed("False"))]
    driven = play(BackwardCheck(), *script)
    assert (driven.answer, driven.noted("stop"), driven.noted("verdict")) == (
        "2",
        ["rounds"],
        ["INCORRECT"] * 3,
    )


@pytest.mark.parametrize("result", [SILENT, printed("maybe"), printed("7")])
def test_what_no_program_decides_stands(result: Any) -> None:
    driven = play(BackwardCheck(), box(7), TEST, result)
    assert (driven.answer, driven.noted("stop"), driven.noted("verdict")) == (
        "7",
        ["undecided"],
        ["UNCLEAR"],
    )


def test_failing_program_is_repaired_once() -> None:
    driven = play(BackwardCheck(rounds=1), box(7), code("x"), FAILED, TEST, printed("True"))
    assert driven.steps == ["solver", "solver", "run", "solver", "run"]
    assert "NameError" in driven.shown(3)
    driven = play(BackwardCheck(rounds=1), box(7), code("x"), FAILED, code("y"), STOPPED)
    assert (driven.answer, driven.noted("stop")) == ("7", ["undecided"])


def test_no_program_decides_nothing() -> None:
    assert play(BackwardCheck(), box(7), Reply("It holds: True")).noted("stop") == ["undecided"]
    assert play(BackwardCheck(), box(7), Reply(""), Reply("")).noted("stop") == ["undecided"]


def test_a_lost_test_is_no_verdict() -> None:
    assert play(BackwardCheck(), box(7), Reply(""), Reply("")).noted("verdict") == []


def test_a_draft_without_an_answer_is_not_put_back() -> None:
    driven = play(BackwardCheck(), Reply("Hm."), box(7), TEST, printed("True"))
    assert driven.steps == ["solver", "solver", "solver", "run"]
    assert "final answer" in driven.shown(1)
    assert (driven.answer, driven.noted("draft")) == ("7", [None, "7"])


def test_no_answer_ever() -> None:
    driven = play(BackwardCheck(), *[Reply("Hm.")] * 3)
    assert (driven.answer, driven.noted("stop")) == (None, ["rounds"])


def test_the_last_valid_answer_stands() -> None:
    assert play(BackwardCheck(rounds=2), box(6), TEST, printed("False"), Reply("Hm.")).answer == "6"


@pytest.mark.parametrize("lost", [Reply(""), Reply(" "), cut("Let me")])
def test_lost_drafts_are_no_rounds(lost: Reply) -> None:
    driven = play(BackwardCheck(), lost, box(7), TEST, printed("True"))
    assert (driven.temperatures[:2], driven.noted("draft"), len(driven.noted("lost"))) == (
        [None, 0.7],
        ["7"],
        1,
    )
    driven = play(BackwardCheck(), box(6), TEST, printed("False"), lost, lost)
    assert (driven.answer, driven.noted("stop"), driven.noted("draft")) == ("6", ["lost"], ["6"])


def test_truncated_replies_that_say_enough() -> None:
    driven = play(BackwardCheck(), cut(r"\boxed{7} an"), cut(f"{TEST.text}\nThis"), printed("True"))
    assert (driven.answer, driven.noted("lost")) == ("7", [])


def test_an_option_is_put_back() -> None:
    driven = play(BackwardCheck(), box("B"), TEST, printed("True"), problem=CHOICE)
    assert (driven.answer, "answer: B" in driven.shown(1)) == ("B", True)


def test_images_are_in_both_first_prompts() -> None:
    driven = play(BackwardCheck(), box(7), TEST, printed("True"), problem=PICTURED)
    assert all(PICTURE in driven.chat(step)[0].content for step in (0, 1))


def test_image_is_shown_once_in_a_chat() -> None:
    script = box(6), TEST, printed("False"), box(7), TEST, printed("True")
    driven = play(BackwardCheck(), *script, problem=PICTURED)
    assert sum(PICTURE in message.content for message in driven.chat(3)) == 1


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"backward_prompt": "nope"}, {"repair_prompt": "solve"}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"BackwardCheck|nope|solve"):
        BackwardCheck(**options)
