"""Rows, files and options that are malformed are named; numbers are taken as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from data.published import COT, PROBLEMS, QUESTIONS, write_jsonl

from slm_math.data import GSM8K, MATH, MATH500, CoT
from slm_math.data.base import Source, Split, read_tasks
from slm_math.types import Problem, Task


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "1?"}, "train.jsonl, line 17: field 'answer' is missing"),
        (
            {"question": "1?", "answer": True},
            "train.jsonl, line 17: field 'answer' must be text, got bool",
        ),
        (
            {"question": "1?", "answer": float("nan")},
            "train.jsonl, line 17: field 'answer' is nan, not a number",
        ),
        ({"question": " ", "answer": "#### 5"}, "train.jsonl, line 17: field 'question' is empty"),
        (
            {"question": "1?", "answer": "5"},
            "train.jsonl, line 17: field 'answer' does not end in '#### <answer>'",
        ),
        ([], "train.jsonl, line 17: not a JSON object"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: dict, message: str) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", [*QUESTIONS[:16], row, *QUESTIONS[16:]])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GSM8K(str(path)).tasks("train")


NUMBERS = [
    (-48, "-48"),
    (7.0, "7"),
    (0.125, "0.125"),
    (3e-7, "0.0000003"),
    (10**30, "1" + "0" * 30),
]


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_a_number_is_taken_as_text(tmp_path: Path, number: float, text: str) -> None:
    def one(source: type[Source], split: Split, row: dict[str, Any]) -> Task:
        path = str(write_jsonl(tmp_path / f"{split}.jsonl", [row]))
        options = {} if source is MATH500 else {"validation": 0}
        [task] = read_tasks(source(path, **options), split)  # type: ignore[call-arg]
        return task

    assert one(GSM8K, "train", {"question": number, "answer": number}).gold == text
    assert one(MATH500, "test", {"problem": "1?", "answer": number}).gold == text
    made = one(CoT, "train", {"question": "1?", "ground_truth": number, "solution": number})
    assert (made.gold, made.solution) == (text, text)


def test_a_solution_that_is_a_number_is_taken_as_text() -> None:
    class Numbers(Source):
        name = "numbers"

        def tasks(self, split: Split) -> list[Task]:
            return [Task(Problem("n", "How many?"), 4.5, solution=4.5)]  # type: ignore[arg-type]

    [task] = read_tasks(Numbers(), "train")
    assert (task.gold, task.solution) == ("4.5", "4.5")


def test_other_malformed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "1?"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.jsonl, line 1: not JSON"):
        GSM8K(str(tmp_path / "train.jsonl")).tasks("train")
    (tmp_path / "train.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no rows"):
        GSM8K(str(tmp_path / "train.jsonl")).tasks("train")
    (tmp_path / "train.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"train\.parquet: unknown format \(no Parquet file"):
        GSM8K(str(tmp_path / "train.parquet")).tasks("train")
    path = write_jsonl(tmp_path / "cot.jsonl", [COT, COT | {"correct": "yes"}])
    with pytest.raises(
        ValueError, match=r"cot\.jsonl, line 2: field 'correct' must be true or false, got 'yes'"
    ):
        CoT(str(path)).tasks("train")
    path = write_jsonl(tmp_path / "math.jsonl", [PROBLEMS[0] | {"solution": "It is 5."}])
    with pytest.raises(ValueError, match=r"math\.jsonl, line 1: field 'solution' has no"):
        MATH(str(path)).tasks("train")


def test_a_wrong_option_fails_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        GSM8K(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="validation must be a fraction"):
        GSM8K(validation=5)
    with pytest.raises(ValueError, match="limit must be a positive number"):
        MATH500(limit=0)
