"""One question, and worked examples in front of it."""

from pathlib import Path

import pytest
from agents.driving import box, code, cut, judged, play
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM

from slm_math.agents import (
    CodeFeedback,
    FewShot,
    PlanAndReflect,
    PythonTools,
    SingleShot,
    SolverVerifier,
)
from slm_math.types import Problem, Reply, Task

EXAMPLES = (
    Task(Problem("t/1", "What is 1 + 1?"), "2", r"One and one: \boxed{2}."),
    Task(Problem("t/2", "What is 2 + 3?", images=(PICTURE,)), "5", r"Two and three: \boxed{5}."),
)


def test_one_request_of_the_solver_in_the_roles_own_sampling() -> None:
    driven = play(SingleShot(), box(7))
    [request] = driven.requests[0]
    assert (request.role, request.resume, request.temperature, request.not_first) == (
        "solver",
        False,
        None,
        None,
    )
    assert [message.role for message in request.chat] == ["user"]
    assert PROBLEM.text in request.chat[0].text
    assert (driven.answer, driven.notes) == ("7", [])


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (Reply(""), None),
        (Reply(" \n "), None),
        (Reply("I do not know."), None),
        (cut("First, 3 +"), None),
        (cut(r"\boxed{7} and furthermo"), "7"),
        (Reply(r"\boxed{6} no, \boxed{7}"), "7"),
        (Reply("\x00\ud800</script>"), None),
    ],
)
def test_one_reply_decides(reply: Reply, answer: str | None) -> None:
    assert play(SingleShot(), reply).answer == answer


def test_the_last_number_counts_on_request_only() -> None:
    assert play(SingleShot(), Reply("so that makes 7 apples")).answer is None
    assert play(SingleShot(last_number=True), Reply("so that makes 7 apples")).answer == "7"


def test_options_reach_the_request() -> None:
    [request] = play(SingleShot(temperature=0.3, not_first=("\\",)), box(7)).requests[0]
    assert (request.temperature, request.not_first) == (0.3, ("\\",))


def test_a_users_own_prompt(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("Bitte: {problem} {not a slot}\n")
    assert play(SingleShot(str(mine)), box(7)).shown(0) == f"Bitte: {PROBLEM.text} {{not a slot}}"


@pytest.mark.parametrize("prompt", ["no_such_prompt", "no/such/file.txt", "verify"])
def test_prompt_that_cannot_be_filled_is_an_error_at_once(prompt: str) -> None:
    with pytest.raises(ValueError, match=prompt):
        SingleShot(prompt)


def test_a_problem_with_slots_and_markup_stays_what_it_is() -> None:
    text = "{problem} {critique} <b>\x1b[31m \ud800"
    driven = play(SolverVerifier(), box("{answer}"), judged("CORRECT"), problem=Problem("p", text))
    assert text in driven.shown(0)
    assert text in driven.shown(1)


def test_examples_stand_in_front_as_the_agent_itself_asks() -> None:
    driven = play(FewShot(SingleShot(), EXAMPLES), box(7))
    chat = driven.chat(0)
    assert [message.role for message in chat] == ["user", "assistant", "user", "assistant", "user"]
    alone = [play(SingleShot(), box(0), problem=task.problem).chat(0)[0] for task in EXAMPLES]
    assert [chat[0], chat[2]] == alone
    assert [chat[1].text, chat[3].text] == [task.solution for task in EXAMPLES]
    assert chat[4:] == play(SingleShot(), box(7)).chat(0)
    assert driven.answer == "7"


def test_examples_are_for_the_solver_only_and_in_every_turn_of_it() -> None:
    driven = play(FewShot(SolverVerifier(rounds=2), EXAMPLES), box(6), judged("INCORRECT"), box(7))
    assert [len(driven.chat(step)) for step in range(3)] == [4 + 1, 1, 4 + 3]


def test_examples_leave_programs_and_notes_alone() -> None:
    script = code(), FAILED, box(7)
    shown, bare = play(FewShot(CodeFeedback(), EXAMPLES), *script), play(CodeFeedback(), *script)
    assert (shown.notes, shown.requests[1], shown.answer) == (
        bare.notes,
        bare.requests[1],
        bare.answer,
    )


def test_examples_in_front_of_a_resumed_reply() -> None:
    driven = play(FewShot(PythonTools(), EXAMPLES), Reply("```python\n1\n```\n"), FAILED, box(7))
    resumed = driven.requests[2][0]
    assert resumed.resume
    assert [message.role for message in resumed.chat] == ["user", "assistant"] * 3


def test_examples_take_on_what_the_agent_needs() -> None:
    shot = FewShot(SolverVerifier(), EXAMPLES)
    assert (shot.roles, shot.uses_python) == (("solver", "verifier"), True)
    assert (FewShot(SingleShot(), ()).roles, FewShot(SingleShot(), ()).uses_python) == (
        ("solver",),
        False,
    )


def test_no_examples_change_nothing() -> None:
    assert play(FewShot(SingleShot(), ()), box(7)).requests == play(SingleShot(), box(7)).requests


def test_examples_of_examples() -> None:
    twice = FewShot(FewShot(SingleShot(), EXAMPLES[:1]), EXAMPLES[1:])
    assert len(play(twice, box(7)).chat(0)) == 5


def test_an_agent_that_asks_for_something_else_first_shows_no_examples() -> None:
    with pytest.raises(ValueError, match="PlanAndReflect has no prompt of its own"):
        FewShot(PlanAndReflect(), EXAMPLES)


def test_images_of_examples_and_of_the_problem() -> None:
    chat = play(FewShot(SingleShot(), EXAMPLES), box(7), problem=PICTURED).chat(0)
    assert [PICTURE in message.content for message in chat] == [False, False, True, False, True]


def test_an_example_without_a_solution_is_refused() -> None:
    with pytest.raises(ValueError, match="t/9"):
        FewShot(SingleShot(), [Task(Problem("t/9", "What is 9 + 0?"), "9")])
