"""Preferences: pairs of a right and a wrong reply to one prompt."""

from pathlib import Path
from typing import Any

import pytest
from synthesis.attempts import attempt, build, code, draft, evaluation, ran, turn

from slm_math.records.record import NoteEvent, Record

Q = "A bag has 4 apples. How many apples have 3 bags?"


def said(text: str, sample: int, **more: Any) -> Record:
    answer = text.split()[-1]
    return attempt(4, answer, turn(f"#### {text}", Q, **more), sample=sample)


def rows(tmp_path: Path, records: list[Record], *options: str) -> list[dict[str, Any]]:
    path = evaluation(tmp_path / "e", records)
    return build("preferences", path, tmp_path / "out", *options)["train"]


def pairs(made: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in made}


def test_a_pair_is_a_prompt_with_a_right_and_a_wrong_reply(tmp_path: Path) -> None:
    [row] = rows(tmp_path, [said("12", 0), said("13", 1)])
    assert row["prompt"] == [{"role": "user", "content": Q}]
    assert row["chosen"] == [{"role": "assistant", "content": "#### 12"}]
    assert row["rejected"] == [{"role": "assistant", "content": "#### 13"}]


def test_at_most_so_many_pairs_of_a_problem(tmp_path: Path) -> None:
    records = [said(text, n) for n, text in enumerate(["12", "13", "14", "15"])]
    records.append(attempt(4, "12", turn("It is 12.\n#### 12", Q), sample=4))
    assert len(rows(tmp_path / "a", records)) == 1
    made = rows(tmp_path / "b", records, "--per_problem", "3")
    assert len(pairs(made)) == 3
    assert {rejected for _, rejected in pairs(made)} == {"#### 13", "#### 14", "#### 15"}


def test_replies_to_other_prompts_are_not_compared(tmp_path: Path) -> None:
    other = attempt(4, "13", turn("#### 13", "Please: " + Q), sample=1)
    with pytest.raises(SystemExit):
        rows(tmp_path, [said("12", 0), other])


def test_the_candidates_of_one_attempt_are_compared(tmp_path: Path) -> None:
    votes = [NoteEvent(kind="candidate", text=text, correct=text == "12") for text in ("12", "13")]
    events = (turn("#### 12", Q), turn("#### 13", Q), *votes)
    made = rows(tmp_path, [attempt(4, "12", *events)])
    assert pairs(made) == {("#### 12", "#### 13")}


def test_a_first_reply_is_judged_by_what_its_program_computes(tmp_path: Path) -> None:
    def with_code(program: str, output: str, sample: int) -> Record:
        first = (turn(code(program), Q), ran(program, output), draft(output, output == "12"))
        last = turn("#### 12", Q, code(program), output)
        return attempt(4, "12", *first, last, draft("12", True), sample=sample)

    made = rows(tmp_path, [with_code("print(12)", "12", 0), with_code("print(13)", "13", 1)])
    assert pairs(made) == {(code("print(12)"), code("print(13)"))}


def test_equal_and_unfinished_replies_are_no_pair(tmp_path: Path) -> None:
    """Labels that contradict each other, and a reply that was cut off."""
    lied = attempt(4, "12", turn("#### 12", Q), correct=False, sample=1)
    cut = said("13", 2, finish="length")
    with pytest.raises(SystemExit):
        rows(tmp_path, [said("12", 0), lied, cut])


def test_a_program_that_was_cut_off_is_no_wrong_reply(tmp_path: Path) -> None:
    cut = (turn(code("print(1"), Q, finish="length"), ran("print(1", "SyntaxError", ok=False))
    with pytest.raises(SystemExit):
        rows(tmp_path, [said("12", 0), attempt(4, "13", *cut, sample=1)])


def test_an_evaluation_without_pairs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rows(tmp_path, [said("13", 0), said("14", 1)])
    assert "(0 replies are right and 2 wrong, of 1 prompts)" in capsys.readouterr().err
