"""A program that is repaired, reviewed and tested by another program."""

from typing import Any

import pytest
from agents.driving import box, code, cut, judged, play, printed
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM, SILENT, STOPPED

from slm_math.agents import SolverCoder
from slm_math.types import Reply, RunPython

PROGRAM, TEST = code("print(3+4)"), code("print(3 + 4 == 7)")
HOLDS = TEST, printed("True")
BREAKS = TEST, printed("False")


def test_program_review_and_test_in_turn() -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), judged("CORRECT"), *HOLDS)
    assert driven.steps == ["solver", "run", "solver", "checker", "run"]
    assert driven.temperatures == [None] * 3
    assert PROBLEM.text in driven.shown(0)
    assert driven.requests[1] == [RunPython("print(3+4)")]
    assert [message.role for message in driven.chat(2)] == ["user", "assistant", "user"]
    assert "7" in driven.shown(2)
    assert [message.role for message in driven.chat(3)] == ["user"]
    assert (PROBLEM.text in driven.shown(3), "answer: 7" in driven.shown(3)) == (True, True)
    assert [(n.kind, n.text, n.role) for n in driven.notes] == [
        ("draft", "7", ""), ("verdict", "CORRECT", "solver"), ("verdict", "CORRECT", "checker"),
        ("stop", "accepted", ""),
    ]  # fmt: skip
    assert driven.answer == "7"


def test_errors_are_repaired_in_the_same_chat() -> None:
    driven = play(
        SolverCoder(),
        code("x"),
        FAILED,
        code("y"),
        STOPPED,
        PROGRAM,
        printed(7),
        judged("CORRECT"),
        *HOLDS,
    )
    assert driven.steps[:6] == ["solver", "run"] * 3
    assert ("NameError" in driven.shown(2), "stopped after 5 s" in driven.shown(4)) == (True, True)
    assert [message.role for message in driven.chat(4)] == ["user", "assistant"] * 2 + ["user"]
    assert driven.noted("draft") == ["7"]


def test_repairs_are_limited_and_then_a_new_program_is_asked_for() -> None:
    script = [step for _ in range(4) for step in (code("x"), FAILED)]
    driven = play(SolverCoder(), *script, PROGRAM, printed(7), judged("CORRECT"), *HOLDS)
    assert driven.noted("draft") == [None, "7"]
    again = driven.requests[8][0]
    assert (len(again.chat), again.temperature) == (1, 0.7)
    assert (PROBLEM.text in again.chat[0].text, "NameError" in again.chat[0].text) == (True, True)
    assert play(SolverCoder(rounds=1, repairs=0), code("x"), FAILED).answer is None


def test_a_review_that_objects_leads_to_a_new_program() -> None:
    critic = Reply("It multiplies.\nVERDICT: INCORRECT")
    driven = play(
        SolverCoder(),
        code("print(12)"),
        printed(12),
        critic,
        PROGRAM,
        printed(7),
        judged("CORRECT"),
        *HOLDS,
    )
    assert driven.steps == ["solver", "run", "solver", "solver", "run", "solver", "checker", "run"]
    assert [message.role for message in driven.chat(3)] == ["user"]
    assert ("It multiplies." in driven.shown(3), PROBLEM.text in driven.shown(3)) == (True, True)
    assert driven.temperatures == [None, None, 0.7, None, None]
    assert driven.answer == "7"


def test_a_test_that_objects_leads_to_a_new_program() -> None:
    driven = play(
        SolverCoder(), code("print(6)"), printed(6), judged("CORRECT"), *BREAKS, PROGRAM,
        printed(7), judged("CORRECT"),
        *HOLDS,
    )  # fmt: skip
    assert ("6" in driven.shown(5), "False" in driven.shown(5)) == (True, True)
    assert (driven.answer, driven.noted("draft")) == ("7", ["6", "7"])


@pytest.mark.parametrize("objection", [(judged("INCORRECT"),), (judged("CORRECT"), *BREAKS)])
def test_endless_objections_end_after_two_programs(objection: tuple[Any, ...]) -> None:
    driven = play(
        SolverCoder(), code("print(6)"), printed(6), *objection, PROGRAM, printed(7), *objection
    )
    assert (driven.answer, driven.noted("stop"), driven.noted("draft")) == (
        "7",
        ["rounds"],
        ["6", "7"],
    )


@pytest.mark.parametrize(
    "review", [judged("UNCLEAR"), Reply("Looks fine."), Reply("It is correct")]
)
def test_an_unclear_review_leaves_it_to_the_test(review: Reply) -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), review, *HOLDS)
    assert driven.noted("verdict") == ["UNCLEAR", "CORRECT"]
    assert driven.noted("stop") == ["accepted"]


@pytest.mark.parametrize("lost", [Reply(""), Reply(" "), cut("The program")])
def test_a_review_that_is_lost_leaves_it_to_the_test(lost: Reply) -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), lost, lost, *HOLDS)
    assert (driven.noted("verdict"), len(driven.noted("lost"))) == (["CORRECT"], 2)


def test_what_nobody_decides_passes() -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), judged("UNCLEAR"), TEST, printed("perhaps"))
    assert driven.answer == "7"
    driven = play(
        SolverCoder(), PROGRAM, printed(7), judged("UNCLEAR"), code("x"), FAILED, code("x"), FAILED
    )
    assert driven.answer == "7"


@pytest.mark.parametrize("lost", [Reply(""), Reply(" "), cut("```python\nprint(")])
def test_lost_programs_are_no_rounds(lost: Reply) -> None:
    driven = play(SolverCoder(), lost, PROGRAM, printed(7), judged("CORRECT"), *HOLDS)
    assert (driven.noted("draft"), len(driven.noted("lost"))) == (["7"], 1)
    driven = play(SolverCoder(), lost, lost)
    assert (driven.answer, driven.noted("draft"), driven.noted("stop")) == (None, [], ["lost"])


def test_a_lost_second_program_leaves_the_first_answer() -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), judged("INCORRECT"), Reply(""), Reply(""))
    assert (driven.answer, driven.noted("stop")) == ("7", ["lost"])


def test_a_failed_second_program_leaves_the_first_answer() -> None:
    driven = play(
        SolverCoder(repairs=0), PROGRAM, printed(7), judged("INCORRECT"), code("x"), FAILED
    )
    assert (driven.answer, driven.noted("draft")) == ("7", ["7", None])


def test_truncated_reply_with_a_whole_program_counts() -> None:
    driven = play(
        SolverCoder(), cut(PROGRAM.text + "\nIt adds"), printed(7), judged("CORRECT"), *HOLDS
    )
    assert driven.noted("lost") == []


def test_a_program_without_output_is_a_draft_without_an_answer() -> None:
    driven = play(
        SolverCoder(), code("3+4;"), SILENT, PROGRAM, printed(7), judged("CORRECT"), *HOLDS
    )
    assert driven.steps[:4] == ["solver", "run", "solver", "run"]
    assert driven.noted("draft") == [None, "7"]


def test_what_is_only_written_is_no_answer() -> None:
    driven = play(SolverCoder(), box(7), box(7))
    assert (driven.answer, driven.noted("draft")) == (None, [None, None])


def test_a_reply_without_a_program_does_not_void_the_rounds() -> None:
    driven = play(SolverCoder(), box(7), PROGRAM, printed(7), judged("CORRECT"), *HOLDS)
    assert driven.answer == "7"


def test_a_repair_without_a_program_does_not_void_the_rounds() -> None:
    driven = play(
        SolverCoder(),
        code("x"),
        FAILED,
        Reply("I see no mistake."),
        PROGRAM,
        printed(7),
        judged("CORRECT"),
        *HOLDS,
    )
    assert driven.noted("draft") == [None, "7"]


def test_undecided_is_not_accepted() -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), judged("UNCLEAR"), TEST, printed("perhaps"))
    assert driven.noted("stop") == ["undecided"]


def test_images_are_in_the_first_prompts() -> None:
    driven = play(SolverCoder(), PROGRAM, printed(7), judged("CORRECT"), *HOLDS, problem=PICTURED)
    assert [[PICTURE in m.content for m in driven.chat(s)] for s in (0, 2, 3)] == [
        [True],
        [True, False, False],
        [True],
    ]
    driven = play(
        SolverCoder(), PROGRAM, printed(7), judged("INCORRECT"), PROGRAM, printed(7),
        judged("CORRECT"), *HOLDS,
        problem=PICTURED,
    )  # fmt: skip
    assert PICTURE in driven.chat(3)[0].content


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"repairs": -1}, {"again_prompt": "nope"}, {"prompt": "verify"}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"SolverCoder|nope|verify"):
        SolverCoder(**options)
