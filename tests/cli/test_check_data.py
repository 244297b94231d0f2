"""`slm-math check-data` and `slm-math tag`: what they print, write, and end with."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli.evaluating import ONE, SHORT, Said, ask, gsm8k
from tiny import model_folder

STORY = (
    "A train leaves the northern station with {} passengers on board and at each of the following "
    "{} stops another {} people get on. How many people are on board at the end?"
)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("COLUMNS", "80")
    return partial(ask, capsys)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_with_mistakes(tmp_path: Path, said: Said) -> None:
    rows = [
        {"question": "What is 3 + 4?", "answer": "3+4=7\n#### 7"},
        {"question": "what is 3 + 4 ?", "answer": "7"},
        {"question": "What is 5 + 6?", "answer": "She has 11. Then she eats one of them."},
        {"question": STORY.format(48, 3, 12), "answer": "84"},
        {"question": STORY.format(20, 2, 5), "answer": "30"},
    ]
    test = write(tmp_path / "test.jsonl", [rows[3]])
    file, out = write(tmp_path / "mine.jsonl", rows), tmp_path / "findings.jsonl"
    status, shown, _ = said("check-data", file, "--against", test, "--out", out, "--show", 1)
    findings = [json.loads(line) for line in out.read_text().splitlines()]
    assert status == 1
    assert [(each["severity"], each["kind"], each["id"]) for each in findings] == [
        ("error", "unreadable", "mine.jsonl, line 3"),
        ("warning", "duplicate", "mine.jsonl, line 2"),
        ("error", "test problem", "mine.jsonl, line 4"),
    ]
    assert max(map(len, shown.partition("all findings: ")[0].splitlines())) <= 80
    assert "mine.jsonl, line 3" in shown


def test_warnings_alone_are_no_failure(tmp_path: Path, said: Said) -> None:
    for name, numbers in (("train", (20, 2, 5)), ("test", (48, 3, 12))):
        answer = str(numbers[0] + numbers[1] * numbers[2])
        row = {"question": STORY.format(*numbers), "answer": f"We add.\n#### {answer}"}
        write(tmp_path / f"{name}.jsonl", [row])
    status, shown, _ = said(
        "check-data", "GSM8K", "--source.path", tmp_path, "--source.validation", 0,
        "--max_length", 100,
    )  # fmt: skip
    assert status == 0
    assert "warning, template of a test problem: 1" in shown
    assert "warning, longer than the limit: 2" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "neither a file nor a data set"),
        (["GSM8K", "--source.path", "nowhere"], "nowhere does not exist"),
        (["MATH500", "--source.path", "{}", "--split", "train"], "it has no train split"),
        (["{}", "--against", "GSM8K"], "GSM8K is neither a file"),
    ],
)
def test_what_cannot_be_checked(
    arguments: list[str], message: str, tmp_path: Path, said: Said
) -> None:
    file = write(tmp_path / "test.jsonl", [{"problem": "What is 1 + 1?", "answer": "2"}])
    status, _, error = said("check-data", *(each.format(file) for each in arguments))
    assert (status, message in error) == (2, True), error


def test_pass_rates_choose_the_problems_of_an_evaluation(
    data: Path, tmp_path: Path, said: Said
) -> None:
    model = model_folder(tmp_path / "model", 0)
    common = [gsm8k(data), ONE, *SHORT, f"--model={model}"]
    assert said("eval", *common, "--out", tmp_path / "first")[0] == 0
    records = tmp_path / "first" / "one" / "records.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["correct"] = number < 3
    write(records, rows)
    tags = tmp_path / "tags.jsonl"
    status, shown, _ = said("tag", tmp_path / "first", "--out", tags)
    assert status == 0
    assert f"{len(rows)} problems, {len(rows)} samples: {len(rows) - 3} never solved" in shown
    where = ["--tags", tags, "--where", "{pass_rate: [0.5, 1]}"]
    status, shown, error = said("eval", *common, *where, "--out", tmp_path / "second")
    assert status == 0, error
    chosen = (tmp_path / "second" / "one" / "records.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in chosen} == {row["id"] for row in rows[:3]}


def test_pass_rates_of_two_agents_are_not_mixed(tmp_path: Path, said: Said) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "records.jsonl").touch()
    status, _, error = said("tag", tmp_path, "--out", tmp_path / "tags.jsonl")
    assert (status, "has 2 agents (one, two): name the folder of one" in error) == (2, True)
    shutil.rmtree(tmp_path / "one")
    status, _, error = said("tag", tmp_path, "--out", tmp_path / "tags.jsonl")
    assert (status, "no sample came to its end" in error) == (2, True)
