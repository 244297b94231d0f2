"""Programs within one reply: where it halts, what is put in, how it goes on."""

from typing import Any

import pytest
from agents.driving import box, cut, play, printed
from agents.inputs import FAILED, PICTURE, PICTURED, PROBLEM, STOPPED

from slm_math.agents import PythonTools
from slm_math.testing import Driven, drive
from slm_math.types import Reply, RunPython, Text

HALT = "\n```\n"


def block(source: str = "print(3+4)", before: str = "") -> Reply:
    """A reply as the stop string leaves it."""
    return Reply(f"{before}```python\n{source}{HALT}")


def injected(driven: Driven, step: int) -> Text:
    part = driven.chat(step)[-1].content[-1]
    assert isinstance(part, Text)
    return part


def test_reply_stops_for_a_program_and_continues() -> None:
    driven = play(
        PythonTools(), block("x = 3", "Let\n"), printed(""), block("print(x)"), printed(3), box(3)
    )
    assert driven.steps == ["solver", "run", "solver", "run", "solver"]
    requests = [asked[0] for asked in driven.requests[::2]]
    assert [request.resume for request in requests] == [False, True, True]
    assert {request.stop for request in requests} == {(HALT,)}
    assert {request.temperature for request in requests} == {None}
    assert [message.role for message in requests[2].chat] == ["user", "assistant"]
    assert PROBLEM.text in requests[0].chat[0].text
    assert driven.requests[3] == [RunPython("print(x)", ("x = 3",))]
    parts = requests[2].chat[1].content
    assert [type(part).__name__ for part in parts] == ["Reply", "Text"] * 2
    assert driven.answer == "3"


def test_program_output_is_not_trained_on() -> None:
    driven = play(PythonTools(), block(), printed(7), box(7))
    assert injected(driven, 2) == Text("```output\n7\n```\n", learn=False)


def test_a_reply_that_ended_at_the_fence_gets_a_line_of_its_own() -> None:
    driven = play(PythonTools(), Reply("```python\nprint(7)\n```"), printed(7), box(7))
    assert injected(driven, 2).text.startswith("\n```output\n")


@pytest.mark.parametrize(
    ("result", "shown"), [(FAILED, "NameError"), (STOPPED, "stopped after 5 s")]
)
def test_errors_are_inserted_and_the_reply_continues(result: Any, shown: str) -> None:
    driven = play(PythonTools(), block(), result, box(7))
    assert shown in injected(driven, 2).text
    assert driven.answer == "7"


def test_what_was_stopped_is_forgotten() -> None:
    driven = play(
        PythonTools(),
        block("a = 1"),
        printed(""),
        block("while a: pass"),
        STOPPED,
        block("a"),
        printed(1),
        box(1),
    )
    assert driven.requests[5][0].earlier == ("a = 1",)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (Reply(""), None),
        (Reply(" \n"), None),
        (cut("Let me"), None),
        (cut("```python\nprint(7)"), None),
        (cut(r"\boxed{7} and"), "7"),
        (Reply("nothing to say"), None),
        (box(7), "7"),
    ],
)
def test_a_reply_without_a_closed_program_ends_it(reply: Reply, answer: str | None) -> None:
    assert play(PythonTools(), reply).answer == answer


def test_empty_continuation_keeps_the_earlier_text() -> None:
    assert (
        play(
            PythonTools(), block(before=r"\boxed{7}, to be sure:" + "\n"), printed(7), Reply("")
        ).answer
        == "7"
    )


def test_output_is_no_answer() -> None:
    assert play(PythonTools(), block(), printed(r"\boxed{7}"), Reply("")).answer is None


def test_five_programs_at_most_by_default() -> None:
    driven = play(PythonTools(), *[block(), printed(7)] * 5, Reply(block().text + r"\boxed{7}"))
    assert driven.steps.count("run") == 5
    assert [asked[0].stop for asked in driven.requests[::2]] == [(HALT,)] * 5 + [None]
    assert driven.answer == "7"


def test_images_keep_their_places() -> None:
    driven = play(PythonTools(), block(), printed(7), box(7), problem=PICTURED)
    assert [sum(PICTURE in m.content for m in driven.chat(step)) for step in (0, 2)] == [1, 1]


@pytest.mark.parametrize("options", [{"runs": 0}, {"prompt": "nope"}, {"prompt": "verify"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"PythonTools|nope|verify"):
        PythonTools(**options)


def test_a_fence_that_opens_is_not_run() -> None:
    [_, second] = drive(PythonTools(), PROBLEM, [f"The sum:{HALT}"], partial=True).requests
    assert not isinstance(second[0], RunPython)


@pytest.mark.parametrize("language", ["text", "output", "latex"])
def test_a_block_in_another_language_does_not_end_the_reply(language: str) -> None:
    driven = play(PythonTools(), Reply(f"```{language}\n3 + 4{HALT}"), box(7))
    assert driven.requests[1][0].resume
    assert driven.answer == "7"


def test_a_program_that_begins_within_a_line_is_not_run_as_an_empty_one() -> None:
    driven = play(PythonTools(), block("print(7)", "I compute "), printed(7), box(7))
    assert driven.requests[1] == [RunPython("print(7)")]
