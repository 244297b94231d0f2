"""The verifier as a solver of problems of its own."""

import pytest

from slm_math.agents import FewShot, Judge, SingleShot
from slm_math.prompts import Prompt
from slm_math.testing import drive
from slm_math.types import Draft, Problem, Task

PROBLEM = Problem("d/1", "What is 3 + 4?", "verdict", draft=Draft("I add: 3 + 4 = 8.", "8"))


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("4 + 3 is 7.\nVERDICT: INCORRECT", "INCORRECT"),
        ("VERDICT: CORRECT", "CORRECT"),
        ("I cannot tell.\nVERDICT: UNCLEAR", None),
        ("It may be 7.", None),
    ],
)
def test_the_verdict_is_the_answer(reply: str, answer: str | None) -> None:
    assert drive(Judge(), PROBLEM, [reply]).answer == answer


def test_it_sees_problem_draft_and_answer() -> None:
    judge = Judge(prompt=Prompt("verify_plain"))
    driven = drive(judge, PROBLEM, ["VERDICT: INCORRECT"])
    [turn] = driven.trace.turns
    assert turn.request.role == "verifier"
    assert [message.text for message in turn.request.chat] == ["Check: What is 3 + 4? Answer: 8"]


def test_a_problem_without_a_draft_is_refused() -> None:
    with pytest.raises(ValueError, match="d/2 has no draft to judge"):
        drive(Judge(), Problem("d/2", "What is 3 + 4?"), ["VERDICT: CORRECT"])


def test_an_agent_that_does_not_show_the_draft_is_refused() -> None:
    with pytest.raises(ValueError, match="d/1 asks about a draft"):
        drive(SingleShot(), PROBLEM, ["VERDICT: CORRECT"])


def test_without_programs_it_needs_no_sandbox() -> None:
    assert not Judge(runs=0).uses_python
    assert Judge().uses_python


def test_a_prompt_that_shows_no_draft_is_refused() -> None:
    with pytest.raises(ValueError, match="'solve' shows neither"):
        Judge(prompt=Prompt("solve"))


def test_worked_verdicts_can_be_shown_first() -> None:
    """`--shots` shows problems with drafts as the verifier is asked about them."""
    example = Task(PROBLEM, "INCORRECT", "3+4=7\nVERDICT: INCORRECT")
    agent = FewShot(Judge(prompt=Prompt("verify_plain")), [example])
    asked = Problem("d/3", "What is 1 + 1?", "verdict", draft=Draft("2", "2"))
    [turn] = drive(agent, asked, ["VERDICT: CORRECT"]).trace.turns
    assert [message.text for message in turn.request.chat] == [
        "Check: What is 3 + 4? Answer: 8",
        "3+4=7\nVERDICT: INCORRECT",
        "Check: What is 1 + 1? Answer: 2",
    ]
