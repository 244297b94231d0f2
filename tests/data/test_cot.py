"""Rows of generate-cot are read, with thoughts in think tags where these are trained on."""

from pathlib import Path
from typing import Any

from data.published import write_jsonl

from slm_math.data import CoT

# the fields of a row that generate-cot writes
ROW: dict[str, Any] = {
    "index": 0, "question": "What is 15 % of 80?", "ground_truth": "12", "predicted_answer": "12",
    "thinking_process": "15 % is 0.15.", "solution": "So \\boxed{12}.", "raw_output": "...",
    "correct": True, "teacher_model": "t", "thinking_effort": "low", "round": 1,
    "attempt_count": 1, "attempts_history": [], "tokens_used": 9, "status": "accepted",
    "dataset": "gsm8k",
}  # fmt: skip


def cot(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> CoT:
    return CoT(str(write_jsonl(tmp_path / "cot.jsonl", list(rows))), validation=0, **options)


def test_thoughts_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    [task] = cot(tmp_path, ROW).tasks("train")
    assert task.solution == "So \\boxed{12}."


def test_thoughts_stand_in_tags_before_the_solution(tmp_path: Path) -> None:
    [task] = cot(tmp_path, ROW, thinking=True).tasks("train")
    assert task.solution == "<think>\n15 % is 0.15.\n</think>\n\nSo \\boxed{12}."
    assert task.gold == "12"


def test_rows_without_thoughts_are_counted(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"thinking_process": ""}, ROW | {"thinking_process": None}]
    source = cot(tmp_path, *rows, thinking=True)
    assert [task.solution for task in source.tasks("train")][1:] == ["So \\boxed{12}."] * 2
    assert source.about("train") == "cot: 2 of 3 rows have no thoughts (thinking_process)"


def test_of_generated_rows_the_journal_is_not_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [ROW])
    write_jsonl(tmp_path / "journal.jsonl", [{"reply": "..."}])
    assert len(CoT(str(tmp_path), validation=0).tasks("train")) == 1
