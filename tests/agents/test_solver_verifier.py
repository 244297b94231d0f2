"""A solver and its verifier: when they stop, what goes back, what stands in the end."""

from typing import Any

import pytest
from agents.driving import box, code, cut, judged, play, printed
from agents.inputs import CHOICE, FAILED, PICTURE, PICTURED, PROBLEM, SILENT, STOPPED

from slm_math.agents import SolverVerifier
from slm_math.testing import Driven
from slm_math.types import Reply


def why(driven: Driven) -> str | None:
    [text] = driven.noted("stop")
    return text


def test_an_accepted_draft_stands() -> None:
    driven = play(SolverVerifier(), box(7), judged("CORRECT"))
    assert driven.steps == ["solver", "verifier"]
    assert driven.temperatures == [None, None]
    assert PROBLEM.text in driven.shown(0)
    assert PROBLEM.text in driven.shown(1)
    assert box(7).text in driven.shown(1)
    assert driven.answer == "7"
    assert [(n.kind, n.text) for n in driven.notes] == [
        ("draft", "7"),
        ("verdict", "CORRECT"),
        ("stop", "accepted"),
    ]


def test_the_critique_goes_back_and_the_retry_is_warm() -> None:
    critic = Reply("The sign is wrong.\nVERDICT: INCORRECT")
    driven = play(SolverVerifier(retry_temperature=0.6), box(6), critic, box(7), judged("CORRECT"))
    assert driven.steps == ["solver", "verifier"] * 2
    assert driven.temperatures == [None, None, 0.6, None]
    assert [message.role for message in driven.chat(2)] == ["user", "assistant", "user"]
    assert driven.chat(2)[:1] == driven.chat(0)
    assert driven.chat(2)[1].content == (box(6),)
    assert critic.text in driven.shown(2)
    assert [message.role for message in driven.chat(3)] == ["user"]
    assert box(6).text not in driven.shown(3)


@pytest.mark.parametrize("word", ["INCORRECT", "UNCLEAR", "maybe"])
def test_endless_doubt_ends_after_five_drafts_with_the_last_answer(word: str) -> None:
    script: list[Any] = [step for n in range(5) for step in (box(n), judged(word))][:-1]
    driven = play(SolverVerifier(), *script)
    assert driven.noted("draft") == ["0", "1", "2", "3", "4"]
    assert (driven.answer, why(driven)) == ("4", "rounds")
    assert driven.noted("verdict") == ["UNCLEAR" if word == "maybe" else word] * 4


@pytest.mark.parametrize(
    ("first", "second"), [("0.5", r"\frac12"), ("1/2", "50\\%"), ("x=3", "3"), ("7", "7.0")]
)
def test_two_equal_answers_in_other_spellings_agree(first: str, second: str) -> None:
    driven = play(SolverVerifier(), box(first), judged("INCORRECT"), box(second))
    assert why(driven) == "agreed"


def test_an_earlier_answer_that_comes_back_agrees() -> None:
    driven = play(
        SolverVerifier(), box(6), judged("INCORRECT"), box(7), judged("UNCLEAR"), box("6.0")
    )
    assert (driven.answer, why(driven)) == ("6.0", "agreed")


def test_an_option_and_its_value_agree() -> None:
    driven = play(SolverVerifier(), box("B"), judged("INCORRECT"), box("7"), problem=CHOICE)
    assert why(driven) == "agreed"


def test_unanswered_draft_skips_verifier() -> None:
    driven = play(SolverVerifier(), Reply("Hm."), box(7), judged("CORRECT"))
    assert driven.steps == ["solver", "solver", "verifier"]
    assert "final answer" in driven.shown(1)
    assert driven.noted("draft") == [None, "7"]


def test_no_answer_ever() -> None:
    driven = play(SolverVerifier(rounds=3), *[Reply("Hm.")] * 3)
    assert (driven.answer, why(driven), driven.noted("draft")) == (None, "rounds", [None] * 3)


def test_the_last_valid_answer_stands() -> None:
    driven = play(SolverVerifier(rounds=2), box(7), judged("INCORRECT"), Reply("I give up."))
    assert (driven.answer, driven.noted("draft")) == ("7", ["7", None])


@pytest.mark.parametrize("lost", [Reply(""), Reply(" \n"), cut("Let me"), cut("```python\nprint(")])
def test_an_empty_or_truncated_draft_is_retried_and_no_round(lost: Reply) -> None:
    driven = play(SolverVerifier(), lost, box(7), judged("CORRECT"))
    assert driven.temperatures[:2] == [None, 0.7]
    assert driven.chat(1) == driven.chat(0)
    assert driven.noted("draft") == ["7"]
    assert [note.role for note in driven.notes if note.kind == "lost"] == ["solver"]


def test_a_truncated_draft_with_its_answer_is_a_draft() -> None:
    driven = play(SolverVerifier(), cut(r"\boxed{7} and"), judged("CORRECT"))
    assert (driven.answer, driven.noted("lost")) == ("7", [])


def test_a_solver_that_stays_silent_ends_it_with_what_there_is() -> None:
    driven = play(SolverVerifier(), Reply(""), Reply(""))
    assert (driven.answer, why(driven), driven.noted("draft")) == (None, "lost", [])
    driven = play(SolverVerifier(), box(7), judged("INCORRECT"), Reply(""), cut("Hm"))
    assert (driven.answer, why(driven), driven.noted("draft")) == ("7", "lost", ["7"])


def test_a_verifier_that_stays_silent_gives_no_verdict() -> None:
    driven = play(SolverVerifier(rounds=2), box(7), Reply(""), cut("The prob"), box(8))
    assert driven.steps == ["solver", "verifier", "verifier", "solver"]
    assert driven.noted("verdict") == []
    assert [note.role for note in driven.notes if note.kind == "lost"] == ["verifier"] * 2
    assert driven.answer == "8"


def test_the_solver_runs_programs_and_sees_their_errors() -> None:
    driven = play(
        SolverVerifier(), code("x"), FAILED, code(), printed(7), box(7), judged("CORRECT")
    )
    assert driven.steps == ["solver", "run", "solver", "run", "solver", "verifier"]
    assert "NameError" in driven.shown(2)
    assert "7" in driven.shown(4)
    assert driven.noted("draft") == ["7"]


def test_the_solver_runs_three_programs_a_draft_and_no_more() -> None:
    driven = play(SolverVerifier(rounds=1), *[code(), STOPPED] * 3, code())
    assert driven.steps.count("run") == 3
    assert driven.answer is None


def test_retries_keep_the_programs_and_are_warm_throughout() -> None:
    driven = play(
        SolverVerifier(), box(6), judged("INCORRECT"), code(), SILENT, box(7), judged("CORRECT")
    )  # fmt: skip
    assert driven.temperatures == [None, None, 0.7, 0.7, None]
    assert [message.role for message in driven.chat(4)] == ["user", "assistant"] * 2 + ["user"]


def test_the_verifier_checks_with_a_program() -> None:
    driven = play(
        SolverVerifier(), box(7), code("print(3+4==7)"), printed("True"), judged("CORRECT")
    )
    assert driven.steps == ["solver", "verifier", "run", "verifier"]
    assert "True" in driven.shown(3)
    assert [message.role for message in driven.chat(3)] == ["user", "assistant", "user"]
    assert driven.answer == "7"


@pytest.mark.parametrize("result", [FAILED, STOPPED, SILENT])
def test_a_verifiers_program_that_fails_leaves_the_verdict_to_it(result: Any) -> None:
    driven = play(SolverVerifier(rounds=2), box(7), code(), result, judged("CORRECT"))
    assert driven.noted("verdict") == ["CORRECT"]


def test_answer_in_a_critique_is_not_the_draft() -> None:
    driven = play(
        SolverVerifier(rounds=2), box(6), Reply(r"\boxed{7} VERDICT: INCORRECT"), Reply("Hm.")
    )
    assert driven.answer == "6"


def test_a_fresh_retry_is_a_new_chat() -> None:
    driven = play(
        SolverVerifier(fresh=True), box(6), judged("INCORRECT"), box(7), judged("CORRECT")
    )
    assert [message.role for message in driven.chat(2)] == ["user"]
    assert "VERDICT: INCORRECT" in driven.shown(2)


def test_a_fresh_retry_shows_the_problem() -> None:
    driven = play(
        SolverVerifier(fresh=True), box(6), judged("INCORRECT"), box(7), judged("CORRECT")
    )
    assert PROBLEM.text in driven.shown(2)


def test_images_are_in_the_first_prompt_of_each() -> None:
    driven = play(
        SolverVerifier(), box(6), judged("INCORRECT"), box(7), judged("CORRECT"), problem=PICTURED
    )
    assert all(PICTURE in driven.chat(step)[0].content for step in range(4))


def test_image_is_shown_once_in_a_chat() -> None:
    driven = play(
        SolverVerifier(), box(6), judged("INCORRECT"), box(7), judged("CORRECT"), problem=PICTURED
    )
    assert sum(PICTURE in message.content for message in driven.chat(2)) == 1


@pytest.mark.parametrize(
    "options",
    [{"rounds": 0}, {"rounds": -1}, {"runs": -1}, {"prompt": "nope"}, {"retry_prompt": "verify"}],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"SolverVerifier|nope|verify"):
        SolverVerifier(**options)
