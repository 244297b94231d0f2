"""Corrections: which programs are wrong, which fixes are right, and that both have run again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from synthesis.attempts import attempt, code, draft, evaluation, ran, turn

from slm_math.data.chat_rows import row_chat
from slm_math.data.files import FileRow
from slm_math.records.record import Record
from slm_math.synthesis.built import Options
from slm_math.synthesis.kinds import build
from slm_math.synthesis.programs import Programs
from slm_math.synthesis.sources import read_evaluations
from slm_math.types import RunPython

ASKED = "A bag has 4 apples. How many apples have 3 bags?"
NAME_ERROR = "line 1: NameError: name 'x' is not defined"


def single(program: str, output: str, ok: bool = True, sample: int = 0) -> Record:
    """An attempt at 4 times 3 by one program."""
    answer = output if ok else None
    events = (turn(code(program), ASKED), ran(program, output, ok))
    return attempt(4, answer, *events, sample=sample)


RIGHT = single("print(4 * 3)", "12", sample=9)


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    """One sandbox for all tests."""
    running = Programs(None, Console())
    yield running
    running.close()


def rows(tmp_path: Path, records: list[Record], programs: Programs) -> list[dict[str, Any]]:
    evaluations = read_evaluations([evaluation(tmp_path / "e", records)], validation=0.0)
    return build(evaluations, Options("corrections"), programs).of("train")


def trained(row: dict[str, Any]) -> list[str]:
    chat = row_chat(FileRow("row", row))
    texts = [part for message in chat if message.role == "assistant" for part in message.content]
    return [text.text for text in texts if getattr(text, "learn", True)]


def test_an_error_is_followed_by_the_fix_of_another_attempt(
    tmp_path: Path, programs: Programs
) -> None:
    [row] = rows(tmp_path, [single("print(x)", NAME_ERROR, ok=False), RIGHT], programs)
    texts = [message["content"] for message in row["messages"]]
    assert texts[:2] == [ASKED, code("print(x)")]
    assert NAME_ERROR in texts[2]
    assert trained(row) == [code("print(4 * 3)")]
    assert (row["kind"], row["error"], row["fix"]) == ("failed", NAME_ERROR, "another attempt")


def test_a_wrong_value_is_followed_by_a_fix(tmp_path: Path, programs: Programs) -> None:
    [row] = rows(tmp_path, [single("print(4 + 3)", "7"), RIGHT], programs)
    assert "It printed:\n7\n" in row["messages"][2]["content"]
    assert (row["kind"], row["error"]) == ("wrong value", "7")
    assert trained(row) == [code("print(4 * 3)")]


def test_a_repair_in_the_attempt_comes_first(tmp_path: Path, programs: Programs) -> None:
    repair = turn(code("print(12)"), ASKED, code("print(x)"), f"It failed: {NAME_ERROR}")
    first = (turn(code("print(x)"), ASKED), ran("print(x)", NAME_ERROR, ok=False))
    repaired = attempt(4, "12", *first, repair, ran("print(12)", "12"), sample=1)
    [row] = rows(tmp_path, [repaired, RIGHT], programs)
    assert [message["content"] for message in row["messages"]] == [
        ASKED,
        code("print(x)"),
        f"It failed: {NAME_ERROR}",
        code("print(12)"),
    ]
    assert trained(row) == [code("print(12)")]
    assert row["fix"] == "later in the attempt"


def test_a_value_on_the_way_is_no_wrong_answer(tmp_path: Path, programs: Programs) -> None:
    """Two programs; only the second gives the answer."""
    second = turn(code("print(12)"), ASKED, code("print(4)"), "Output: 4")
    events = (turn(code("print(4)"), ASKED), ran("print(4)", "4"), second, ran("print(12)", "12"))
    with pytest.raises(ValueError, match="3 programs ran, and none that was wrong"):
        rows(tmp_path, [attempt(4, "12", *events), RIGHT], programs)


def test_a_draft_that_is_wrong_is_a_wrong_value(tmp_path: Path, programs: Programs) -> None:
    second = turn("#### 12", ASKED, code("print(4)"), "Output: 4")
    events = (turn(code("print(4)"), ASKED), ran("print(4)", "4"), draft("4", False), second)
    [row] = rows(tmp_path, [attempt(4, "12", *events, draft("12", True)), RIGHT], programs)
    assert row["kind"] == "wrong value"


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([single("print(4 + 3)", "8"), RIGHT], "1 wrong programs that do something else"),
        (
            [single("print(4 + 3)", "7"), single("print(6)", "12", sample=1)],
            "1 fixes that are not right",
        ),
    ],
)
def test_programs_that_do_something_else_now_are_left_out(
    records: list[Record], reason: str, tmp_path: Path, programs: Programs
) -> None:
    """The records lie about an error, and about a fix."""
    with pytest.raises(ValueError, match=reason):
        rows(tmp_path, records, programs)


def test_every_fix_runs_and_is_right(tmp_path: Path, programs: Programs) -> None:
    wrong = [single(f"print(4 + {n})", str(4 + n), sample=n) for n in range(4)]
    made = rows(tmp_path, [*wrong, RIGHT], programs)
    assert len(made) == 4
    for row in made:
        program, fix = row["receipt"]["program"], row["receipt"]["fix"]["program"]
        wrong, right = programs.run([RunPython(program), RunPython(fix)], "")
        assert right.stdout.strip() == row["gold"]
        assert wrong.text == row["error"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([attempt(4, "12")], "no attempt ran a program, so there is nothing to correct"),
        ([single("print(7)", "7")], "1 programs ran, and none that was wrong has a fix"),
    ],
)
def test_what_cannot_be_corrected_is_refused(
    records: list[Record], message: str, tmp_path: Path, programs: Programs
) -> None:
    with pytest.raises(ValueError, match=message):
        rows(tmp_path, records, programs)
