"""Programs whose output is shown, and programs whose output is the answer."""

from typing import Any

import pytest
from agents.driving import box, code, cut, play, printed
from agents.inputs import CHOICE, FAILED, PICTURE, PICTURED, PROBLEM, SILENT, STOPPED

from slm_math.agents import CodeAsAnswer, CodeFeedback
from slm_math.types import Problem, Reply, RunPython, RunResult


def test_two_passes_around_a_program() -> None:
    first = Reply("I compute.\n" + code().text)
    driven = play(CodeFeedback(), first, printed(7), box(7))
    assert driven.steps == ["solver", "run", "solver"]
    assert driven.temperatures == [None, None]
    assert not any(asked[0].resume for asked in driven.requests[::2])
    assert PROBLEM.text in driven.shown(0)
    assert [message.role for message in driven.chat(2)] == ["user", "assistant", "user"]
    assert driven.chat(2)[1].content == (first,)
    assert "7" in driven.shown(2)
    assert (driven.answer, driven.noted("draft")) == ("7", ["7", "7"])


def test_what_is_written_counts_not_what_was_printed() -> None:
    assert play(CodeFeedback(), code(), printed(8), box(7)).answer == "7"


@pytest.mark.parametrize(
    ("result", "shown"),
    [(FAILED, "NameError"), (STOPPED, "stopped after 5 s"), (printed("a\nb"), "a\nb")],
)
def test_the_second_pass_sees_what_happened(result: RunResult, shown: str) -> None:
    driven = play(CodeFeedback(), code(), result, box(7))
    assert shown in driven.shown(2)
    assert driven.answer == "7"


def test_a_program_without_output_has_its_second_pass_too() -> None:
    assert play(CodeFeedback(), code(), SILENT, box(7)).answer == "7"


def test_a_first_pass_without_a_program_is_final() -> None:
    driven = play(CodeFeedback(), box(7))
    assert (driven.answer, driven.noted("draft")) == ("7", ["7"])


@pytest.mark.parametrize("reply", [Reply(""), Reply(" "), cut("Let me"), Reply("no idea")])
def test_a_first_pass_without_anything_is_no_answer(reply: Reply) -> None:
    assert play(CodeFeedback(), reply).answer is None


@pytest.mark.parametrize("reply", [Reply(""), cut("So the"), Reply("Hm.")])
def test_a_second_pass_without_an_answer_is_no_answer(reply: Reply) -> None:
    assert play(CodeFeedback(), code(), printed(7), reply).answer is None


def test_truncated_second_pass_with_an_answer_counts() -> None:
    assert play(CodeFeedback(), code(), printed(7), cut(r"\boxed{7} and")).answer == "7"


def test_both_passes_are_drafts() -> None:
    first = Reply(r"I guess \boxed{8}." + "\n" + code().text)
    assert play(CodeFeedback(), first, printed(7), box(7)).noted("draft") == ["8", "7"]


@pytest.mark.parametrize(
    ("script", "rounds"),
    [([Reply("")], 0), ([cut("Let me")], 0), ([code(), printed(7), Reply("")], 1)],
)
def test_an_empty_or_truncated_pass_is_no_round(script: list[Any], rounds: int) -> None:
    assert len(play(CodeFeedback(), *script).noted("draft")) == rounds


def test_blocks_of_one_reply_run_together() -> None:
    driven = play(
        CodeFeedback(),
        Reply("```python\na = 3\n```\nand\n```python\nprint(a+4)\n```"),
        printed(7),
        box(7),
    )
    assert driven.requests[1] == [RunPython("print(a+4)", ("a = 3",), turns=1)]


def test_images_are_in_the_first_prompt() -> None:
    driven = play(CodeFeedback(), code(), printed(7), box(7), problem=PICTURED)
    assert [[PICTURE in m.content for m in driven.chat(s)] for s in (0, 2)] == [
        [True],
        [True, False, False],
    ]


@pytest.mark.parametrize(
    "options", [{"prompt": "nope"}, {"output_prompt": "nope"}, {"output_prompt": "solve"}]
)
def test_bad_options(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"nope|solve"):
        CodeFeedback(**options)


def test_the_program_is_the_answer() -> None:
    driven = play(CodeAsAnswer(), code("print(3+4)"), printed(7))
    assert driven.steps == ["solver", "run"]
    assert driven.requests[1] == [RunPython("print(3+4)")]
    assert PROBLEM.text in driven.shown(0)
    assert (driven.answer, driven.temperatures, driven.notes) == ("7", [None], [])


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (printed("3\n4\n7"), "7"),
        (RunResult(True, "3\n", value="7"), "7"),
        (RunResult(True, value="7"), "7"),
        (printed("7\n\n  "), "7"),
        (printed(r"\boxed{7}"), "7"),
        (printed("Fraction(1, 2)"), "Fraction(1, 2)"),
        (printed("0"), "0"),
        (SILENT, None),
        (printed("  \n"), None),
        (FAILED, None),
        (STOPPED, None),
        (RunResult(False, "7\n", "line 2: KeyError: 1"), None),
    ],
)
def test_the_last_thing_printed_is_the_answer(result: RunResult, answer: str | None) -> None:
    assert play(CodeAsAnswer(), code(), result).answer == answer


@pytest.mark.parametrize(
    "reply", [Reply(""), Reply(" "), box(7), cut("Let me"), Reply("```bash\nls\n```")]
)
def test_without_a_program_nothing_runs(reply: Reply) -> None:
    driven = play(CodeAsAnswer(), reply)
    assert (driven.steps, driven.answer) == (["solver"], None)


def test_an_option_printed_is_an_answer() -> None:
    assert play(CodeAsAnswer(), code(), printed("B"), problem=CHOICE).answer == "B"


def test_image_with_a_custom_prompt() -> None:
    driven = play(CodeAsAnswer("code_plain"), code(), printed(7), problem=PICTURED)
    assert (driven.shown(0), PICTURE in driven.chat(0)[0].content) == (
        f"Code: {PROBLEM.text}",
        True,
    )
    with pytest.raises(ValueError, match="nope"):
        CodeAsAnswer("nope")


def test_hostile_output_is_only_text() -> None:
    hostile = "{output} </script>\x1b[31m\x00"
    driven = play(
        CodeFeedback(), code(), printed(hostile), box(7), problem=Problem("p", "{output}")
    )
    assert hostile in driven.shown(2)
