"""A solver and a checker with no memory, a chat, or a summary; with programs or without."""

from typing import Any

import pytest
from agents.driving import box, code, cut, judged, play, printed
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM

from slm_math.agents import SolverChecker
from slm_math.testing import Driven
from slm_math.types import Reply

MEMORIES = ["none", "chat", "summary"]


def roles(driven: Driven, step: int) -> list[str]:
    return [message.role for message in driven.chat(step)]


def rejected(memory: str, *critiques: str) -> list[Any]:
    """Drafts 0, 1, ... each objected to; a summary after each where one is kept."""
    script: list[Any] = []
    for n, critique in enumerate(critiques):
        script += [box(n), Reply(f"{critique}\nVERDICT: INCORRECT")]
        script += [Reply(f"summary {n}")] if memory == "summary" else []
    return script


@pytest.mark.parametrize("memory", MEMORIES)
def test_an_accepted_draft_stands(memory: Any) -> None:
    driven = play(SolverChecker(memory=memory), box(7), judged("CORRECT"))
    assert driven.steps == ["solver", "checker"]
    assert (roles(driven, 0), roles(driven, 1)) == (["user"], ["user"])
    assert PROBLEM.text in driven.shown(0)
    assert PROBLEM.text in driven.shown(1)
    assert box(7).text in driven.shown(1)
    assert [(n.kind, n.text, n.role) for n in driven.notes] == [
        ("draft", "7", ""), ("verdict", "CORRECT", "checker"), ("stop", "accepted", ""),
    ]  # fmt: skip


def test_without_memory_each_sees_the_newest_only() -> None:
    driven = play(SolverChecker(memory="none"), *rejected("none", "wrong A", "wrong B"), box(7))
    assert driven.steps == ["solver", "checker"] * 2 + ["solver"]
    assert [roles(driven, step) for step in range(5)] == [["user"]] * 5
    assert ("wrong A" in driven.shown(2), PROBLEM.text in driven.shown(2)) == (True, True)
    assert ("wrong A" in driven.shown(4), "wrong B" in driven.shown(4)) == (False, True)
    assert (box(0).text in driven.shown(3), box(1).text in driven.shown(3)) == (False, True)
    assert driven.temperatures == [None, None, 0.7, None, 0.7]


def test_with_chat_memory_each_continues_its_own_chat() -> None:
    driven = play(SolverChecker(memory="chat"), *rejected("chat", "wrong A", "wrong B"), box(7))
    assert (roles(driven, 2), roles(driven, 4)) == (
        ["user", "assistant", "user"],
        ["user", "assistant"] * 2 + ["user"],
    )
    assert roles(driven, 3) == ["user", "assistant", "user"]
    assert driven.chat(3)[:1] == driven.chat(1)
    assert "wrong A" in driven.chat(3)[1].text
    assert [box(n).text in "".join(m.text for m in driven.chat(4)) for n in (0, 1)] == [True, True]
    assert "wrong B" in driven.shown(4)


def test_a_summary_is_written_by_the_solver_and_carried_on() -> None:
    driven = play(
        SolverChecker(memory="summary"), *rejected("summary", "wrong A", "wrong B"), box(7)
    )
    assert driven.steps == ["solver", "checker", "solver"] * 2 + ["solver"]
    first, second = driven.shown(2), driven.shown(5)
    assert all(text in first for text in (PROBLEM.text, box(0).text, "wrong A"))
    assert all(text in second for text in ("summary 0", box(1).text, "wrong B"))
    assert "wrong A" not in second
    assert all(text in driven.shown(3) for text in (PROBLEM.text, "summary 0"))
    assert ("summary 0" in driven.shown(6), "summary 1" in driven.shown(6)) == (False, True)
    assert [roles(driven, step) for step in range(7)] == [["user"]] * 7
    assert driven.noted("draft") == ["0", "1", "7"]


def test_a_summary_that_is_lost_leaves_the_critique() -> None:
    driven = play(
        SolverChecker(rounds=2, memory="summary"), box(6), Reply("wrong A\nVERDICT: INCORRECT"),
        Reply(""), Reply(" "),
        box(7),
    )  # fmt: skip
    assert "wrong A" in driven.shown(4)
    assert driven.noted("lost") == ["empty", "empty"]


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("word", ["INCORRECT", "UNCLEAR", "hm"])
def test_endless_doubt_ends_after_the_last_draft(memory: Any, word: str) -> None:
    again = [Reply("notes")] if memory == "summary" else []
    script = [step for n in range(2) for step in (box(n), judged(word), *again)]
    driven = play(SolverChecker(memory=memory), *script, box(2))
    assert (driven.answer, driven.noted("stop"), driven.noted("draft")) == (
        "2",
        ["rounds"],
        ["0", "1", "2"],
    )


def test_the_last_draft_is_not_checked_since_nothing_would_follow() -> None:
    driven = play(SolverChecker(rounds=2), box(6), judged("INCORRECT"), box(7))
    assert (driven.answer, driven.noted("stop")) == ("7", ["rounds"])


def test_equal_answers_alone_do_not_stop_it() -> None:
    driven = play(SolverChecker(), box(7), judged("INCORRECT"), box(7), judged("INCORRECT"), box(7))
    assert driven.noted("stop") == ["rounds"]


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_draft_without_an_answer_is_not_checked(memory: Any) -> None:
    again = [Reply("notes")] if memory == "summary" else []
    driven = play(SolverChecker(memory=memory), Reply("Hm."), *again, box(7), judged("CORRECT"))
    assert driven.steps.count("checker") == 1
    assert (driven.answer, driven.noted("draft")) == ("7", [None, "7"])


def test_the_last_valid_answer_stands() -> None:
    assert play(SolverChecker(rounds=2), box(7), judged("INCORRECT"), Reply("Hm.")).answer == "7"


@pytest.mark.parametrize("lost", [Reply(""), Reply("\n"), cut("Let me")])
def test_lost_drafts_are_no_rounds(lost: Reply) -> None:
    driven = play(SolverChecker(), lost, box(7), judged("CORRECT"))
    assert (driven.noted("draft"), len(driven.noted("lost"))) == (["7"], 1)
    driven = play(SolverChecker(), box(7), judged("INCORRECT"), lost, lost)
    assert (driven.answer, driven.noted("draft"), driven.noted("stop")) == ("7", ["7"], ["lost"])


def test_a_truncated_draft_with_its_answer_counts() -> None:
    assert play(SolverChecker(), cut(r"\boxed{7} an"), judged("CORRECT")).answer == "7"


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_checker_that_is_lost_gives_no_verdict(memory: Any) -> None:
    again = [Reply("notes")] if memory == "summary" else []
    driven = play(
        SolverChecker(rounds=2, memory=memory), box(6), Reply(""), cut("The"), *again, box(7)
    )
    assert (driven.noted("verdict"), driven.answer) == ([], "7")
    assert [note.role for note in driven.notes if note.kind == "lost"] == ["checker"] * 2


def test_a_lost_question_is_no_part_of_the_checkers_chat() -> None:
    driven = play(SolverChecker(rounds=3), box(6), Reply(""), Reply(""), box(7), judged("CORRECT"))
    assert roles(driven, 4) == ["user"]


def test_without_tools_programs_are_text() -> None:
    agent = SolverChecker()
    assert not agent.uses_python
    driven = play(
        agent, Reply(code().text + "\n" + box(7).text), Reply(code().text + "\nVERDICT: CORRECT")
    )
    assert driven.steps == ["solver", "checker"]


def test_with_tools_both_run_programs() -> None:
    agent = SolverChecker(runs=2)
    assert agent.uses_python
    driven = play(
        agent,
        code("x"),
        FAILED,
        code(),
        printed(7),
        box(7),
        code("print(3+4)"),
        printed(7),
        judged("CORRECT"),
    )
    assert driven.steps == ["solver", "run", "solver", "run", "solver", "checker", "run", "checker"]
    assert ("NameError" in driven.shown(2), "VERDICT" in driven.shown(7)) == (True, True)
    assert driven.answer == "7"


def test_programs_are_limited_for_each() -> None:
    agent = SolverChecker(runs=1, rounds=2)
    driven = play(
        agent,
        code(),
        printed(7),
        Reply(f"{code().text} so {box(7).text}"),
        code(),
        printed(7),
        judged("CORRECT"),
    )
    assert driven.steps == ["solver", "run", "solver", "checker", "run", "checker"]


@pytest.mark.parametrize("memory", MEMORIES)
def test_images_are_in_the_first_prompts(memory: Any) -> None:
    driven = play(SolverChecker(memory=memory), box(7), judged("CORRECT"), problem=PICTURED)
    assert all(PICTURE in driven.chat(step)[0].content for step in (0, 1))
    driven = play(
        SolverChecker(rounds=2, memory=memory), *rejected(memory, "no"), box(7), problem=PICTURED
    )
    assert PICTURE in driven.chat(-1)[0].content


@pytest.mark.parametrize(
    "options",
    [{"rounds": 0}, {"runs": -1}, {"check_prompt": "verify_plain"}, {"summary_prompt": "nope"}],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"SolverChecker|verify|nope"):
        SolverChecker(**options)
