"""Building blocks of agents: replies with programs, repairs, verifiers and check programs."""

from typing import Any

import pytest
from agents.driving import Flow, box, code, cut, judged, play, printed
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM, SILENT, STOPPED

from slm_math.agents.coding import (
    NO_PROGRAM,
    has_whole_program,
    reply_with_tools,
    write_program,
)
from slm_math.agents.judging import ask_verifier, run_check_program
from slm_math.prompts import Prompt
from slm_math.types import Note, Reply, Run, RunPython, RunResult, user

CHAT = user("the question")
OUTPUT, REPAIR = Prompt("output", "output"), Prompt("repair", "output")
VERIFIER = {
    "prompt": Prompt("verify", "problem draft answer"),
    "output_prompt": Prompt("verify_output", "output"),
}
CHECK = {"prompt": Prompt("backward", "problem answer"), "repair_prompt": REPAIR}


def working(runs: int = 2, **options: Any) -> Flow:
    return Flow(lambda: reply_with_tools(CHAT, OUTPUT, runs, **options))


def developing(repairs: int = 2, **options: Any) -> Flow:
    return Flow(lambda: write_program(CHAT, REPAIR, repairs, **options))


def judging(**options: Any) -> Flow:
    return Flow(lambda: ask_verifier(PROBLEM, "my draft", "7", **VERIFIER, **options))


def trying(repairs: int = 1) -> Flow:
    return Flow(lambda: run_check_program(PROBLEM, "7", **CHECK, role="checker", repairs=repairs))


def test_reply_with_tools_without_a_program_is_one_reply() -> None:
    assert play(working(), box(7)).answer == (CHAT, box(7))


def test_reply_with_tools_shows_each_output_and_returns_the_chat_before_the_last_reply() -> None:
    driven = play(working(), code("a = 1"), SILENT, code("print(a)"), printed(1), box(1))
    assert driven.steps == ["solver", "run", "solver", "run", "solver"]
    assert driven.requests[3] == [RunPython("print(a)", ("a = 1",))]
    chat, reply = driven.answer
    assert [message.role for message in chat] == ["user", "assistant"] * 2 + ["user"]
    assert (chat, reply) == (driven.chat(4), box(1))
    assert chat[1].content == (code("a = 1"),)


@pytest.mark.parametrize(
    ("result", "shown"),
    [(FAILED, "NameError"), (STOPPED, "stopped after 5 s"), (printed(42), "42")],
)
def test_reply_with_tools_shows_what_became_of_a_program(result: Any, shown: str) -> None:
    assert shown in play(working(), code(), result, box(7)).shown(2)


def test_reply_with_tools_forgets_what_a_stopped_program_defined() -> None:
    driven = play(
        working(3),
        code("a = 1"),
        SILENT,
        code("while a: pass"),
        STOPPED,
        code("a"),
        printed(1),
        box(1),
    )
    assert driven.requests[5][0].earlier == ("a = 1",)


def test_reply_with_tools_runs_so_many_programs_and_asks_for_the_end_in_its_own_words() -> None:
    driven = play(
        working(2, last_prompt=Prompt("step_output", "output")),
        code(),
        SILENT,
        code(),
        SILENT,
        code("late"),
    )
    assert driven.steps.count("run") == 2
    assert driven.answer[1] == code("late")
    assert "Take the next step" in driven.shown(4)
    assert "Take the next step" not in driven.shown(2)


def test_reply_with_tools_without_runs_runs_nothing() -> None:
    assert play(working(0), code()).steps == ["solver"]


def test_reply_with_tools_uses_a_truncated_reply_with_a_whole_program() -> None:
    driven = play(working(), cut(code().text + "\nThis gives"), printed(7), box(7))
    assert driven.notes == []


@pytest.mark.parametrize(
    "text", ["```python\nprint(3", "Let me see", "```python\na=1\n```\nand\n```python\nprint(a"]
)
def test_reply_with_tools_discards_a_truncated_reply_without_program(text: str) -> None:
    driven = play(working(), cut(text), box(7))
    assert driven.notes == [Note("lost", "truncated", role="solver")]
    assert driven.answer == (CHAT, box(7))


def test_reply_with_tools_lost_twice_has_no_reply_but_the_chat_so_far() -> None:
    chat, reply = play(working(), code(), printed(7), Reply(""), Reply("")).answer
    assert reply is None
    assert [message.role for message in chat] == ["user", "assistant", "user"]


def test_reply_with_tools_without_runs_left_discards_a_truncated_program() -> None:
    driven = play(working(0), cut(code().text + "\nThis gives"), box(7))
    assert driven.noted("lost") == ["truncated"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (code().text, True),
        ("~~~python\nprint(1)\n~~~", True),
        ("```python\nprint(1", False),
        ("no program", False),
        ("```python\na\n```\n```python\nb", False),
    ],
)
def test_a_program_is_whole_when_its_end_is_there(text: str, whole: bool) -> None:
    assert has_whole_program(text) == whole


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("~~~python\nprint(1", False),
        ("I use ``` here.\n```python\nprint(1", False),
        ("```python\nprint('```')\n```", True),
    ],
)
def test_a_program_is_whole_when_its_fence_is_closed(text: str, whole: bool) -> None:
    assert has_whole_program(text) == whole


def test_develop_returns_the_chat_with_the_program_and_its_result() -> None:
    chat, run = play(developing(), code(), printed(7)).answer
    assert [message.role for message in chat] == ["user", "assistant"]
    assert run == Run("print(3+4)", printed(7))


def test_develop_shows_errors_until_it_runs() -> None:
    driven = play(
        developing(temperature=0.3), code("x"), FAILED, code("y"), STOPPED, code(), printed(7)
    )
    assert driven.steps == ["solver", "run"] * 3
    assert driven.temperatures == [0.3] * 3
    assert "NameError" in driven.shown(2)
    assert "stopped after 5 s" in driven.shown(4)
    assert all(request.earlier == () for [request] in driven.requests[1::2])


def test_develop_gives_up_after_so_many_repairs() -> None:
    driven = play(developing(2), *[code(), FAILED] * 3)
    assert driven.answer[1].result is FAILED


def test_develop_without_a_program_has_no_result() -> None:
    chat, result = play(developing(), Reply("I cannot.")).answer
    assert (len(chat), result) == (len(CHAT) + 1, NO_PROGRAM)


def test_write_program_asks_again_for_a_truncated_program() -> None:
    driven = play(developing(), cut("```python\nprint("), code(), printed(7))
    assert (driven.noted("lost"), driven.answer[1].result) == (["truncated"], printed(7))


def test_verifier_sees_problem_draft_and_answer() -> None:
    driven = play(judging(role="critic", temperature=0.4), judged("CORRECT"))
    assert (driven.steps, driven.temperatures) == (["critic"], [0.4])
    assert PROBLEM.text in driven.shown(0)
    assert "my draft" in driven.shown(0)
    assert driven.answer == ("CORRECT", judged("CORRECT").text)
    assert driven.notes == [Note("verdict", "CORRECT", role="critic")]


def test_verdict_follows_the_program_run() -> None:
    hasty = Reply(code().text + "\nVERDICT: CORRECT")
    driven = play(judging(), hasty, printed(8), judged("INCORRECT"))
    assert driven.steps == ["verifier", "run", "verifier"]
    assert "8" in driven.shown(2)
    assert driven.noted("verdict") == ["INCORRECT"]


def test_verifier_that_only_writes_programs_is_unclear() -> None:
    assert play(judging(), code(), printed(7), code()).answer[0] == "UNCLEAR"


def test_verdict_before_truncation_counts() -> None:
    assert play(judging(), cut("VERDICT: INCORRECT, as I sa")).answer[0] == "INCORRECT"


def test_lost_verifier_reply_is_unclear_without_a_verdict() -> None:
    driven = play(judging(), Reply(""), cut("Hm"))
    assert driven.answer == ("UNCLEAR", "")
    assert [(note.kind, note.role) for note in driven.notes] == [("lost", "verifier")] * 2


def test_verifier_truncated_in_another_program_is_lost() -> None:
    driven = play(judging(), code(), printed(7), cut(code().text + "\nNow"), judged("CORRECT"))
    assert driven.answer[0] == "CORRECT"


@pytest.mark.parametrize(
    ("result", "decision"),
    [
        (printed("True"), "CORRECT"),
        (printed("False"), "INCORRECT"),
        (printed("checking\nTrue"), "CORRECT"),
        (printed(1), "UNCLEAR"),
        (RunResult(True, "the sum fits\n", value="True"), "CORRECT"),
        (RunResult(True, "False\n", value="0"), "UNCLEAR"),
        (SILENT, "UNCLEAR"),
    ],
)
def test_a_trial_is_decided_by_what_the_program_prints(result: Any, decision: str) -> None:
    driven = play(trying(), code(), result)
    assert driven.answer[0] == decision
    assert driven.notes == [Note("verdict", decision, role="checker")]
    assert PROBLEM.text in driven.shown(0)
    assert "7" in driven.shown(0)


def test_a_check_program_may_end_with_its_main_function() -> None:
    checked = code("def main():\n    print(3 + 4 == 7)\n    return 0\nmain()")
    assert play(trying(), checked, RunResult(True, "True\n", value="0")).answer[0] == "CORRECT"


def test_failing_check_program_is_repaired_once_then_unclear() -> None:
    assert play(trying(), code(), FAILED, code(), printed("False")).answer[0] == "INCORRECT"
    assert play(trying(), code(), FAILED, code(), STOPPED).answer[0] == "UNCLEAR"


def test_a_trial_without_a_program_is_unclear() -> None:
    assert play(trying(), Reply("True")).answer == ("UNCLEAR", NO_PROGRAM.result.text)


def test_verifiers_and_check_programs_see_the_images() -> None:
    tried = Flow(lambda: run_check_program(PICTURED, "7", **CHECK))
    looked = Flow(lambda: ask_verifier(PICTURED, "d", "7", **VERIFIER))
    assert PICTURE in play(tried, Reply("x")).chat(0)[0].content
    assert PICTURE in play(looked, judged("CORRECT")).chat(0)[0].content
