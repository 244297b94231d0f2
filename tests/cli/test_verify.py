"""`slm-math grade --verify`: verdicts in files, in rows and in evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.rows import FIVE, Rows, load, write

from slm_math.answers.graded import grade_trace
from slm_math.records.files import RecordFile
from slm_math.records.record import record
from slm_math.types import Problem, Task, Trace


def changed(verdicts: Rows, at: int, **values: Any) -> Rows:
    return [v | values if i == at else v for i, v in enumerate(verdicts)]


TAMPERED: dict[str, tuple[Callable[[Rows], Rows], list[str]]] = {
    "flipped": (
        lambda v: changed(v, 3, correct=True),
        ["different: 1", "line 4, sample 0", "stored as correct"],
    ),
    "other answer": (lambda v: changed(v, 3, answer="8"), ["different: 1", "line 4", "'8'", "'7'"]),
    "missing": (lambda v: v[:1] + v[2:], ["missing: 1", "line 2, sample 0"]),
    "missing at the end": (lambda v: v[:-1], ["missing: 1", "line 5, sample 0"]),
    "duplicate": (
        lambda v: [*v[:2], v[1], *v[2:]],
        ["duplicate", "line 2, sample 0 in x.graded.jsonl, line 3"],
    ),
    "duplicate at the end": (
        lambda v: [*v, v[0]],
        ["duplicate", "line 1, sample 0 in x.graded.jsonl, line 6"],
    ),
    "of no row": (lambda v: [*v, v[0] | {"line": 9}], ["of no sample", "line 9"]),
    "of no sample": (lambda v: [*v, v[4] | {"sample": 1}], ["of no sample", "line 5, sample 1"]),
    "not a verdict": (lambda v: [*v, {"line": 1}], ["unreadable: 1", "line 6", "'sample'"]),
    "other completion": (
        lambda v: changed(v, 0, completion_hash="0"),
        ["changed since: 1", "line 1", "the completion"],
    ),
    "other gold": (
        lambda v: changed(v, 0, gold_hash="0"),
        ["changed since: 1", "line 1", "the gold"],
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_verify_finds_what_is_wrong_with_a_file_of_verdicts(
    kind: str, tmp_path: Path, said: Any
) -> None:
    file, graded = write(tmp_path / "x.jsonl", FIVE), tmp_path / "x.graded.jsonl"
    said(file)
    assert said(file, "--verify") == (0, f"all 5 verdicts agree with {graded}")
    tamper, expected = TAMPERED[kind]
    write(graded, tamper(load(graded)))
    status, text = said(file, "--verify")
    assert status == 1
    for part in expected:
        assert part in text
    assert "all" not in text


def test_verify_does_not_mind_the_order_of_verdicts(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.jsonl", FIVE)
    said(file, f"--out={tmp_path / 'y'}")
    write(tmp_path / "y", [load(tmp_path / "y")[i] for i in (3, 0, 4, 2, 1)])
    assert said(file, "--verify", f"--out={tmp_path / 'y'}")[0] == 0


def test_verify_sees_a_completion_that_changed_since(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.jsonl", FIVE)
    said(file)
    write(file, changed(FIVE, 0, completion=r"then \boxed{5}"))
    status, text = said(file, "--verify")
    assert status == 1
    assert (
        "changed since: 1 line 1, sample 0 (x.graded.jsonl, line 1): the completion 4 verdicts "
        "agree" in text
    )


def test_only_the_first_ten_differences_are_shown(tmp_path: Path, said: Any) -> None:
    rows = [{"completion": "#### 5", "answer": 5, "correct": i == 0} for i in range(15)]
    status, text = said(write(tmp_path / "x.jsonl", rows), "--verify")
    assert status == 1
    assert "different: 14, the first 10:" in text
    assert "line 11," in text
    assert "line 12," not in text


@pytest.mark.parametrize(
    ("stored", "status", "expected"),
    [
        (True, 0, "all 2 verdicts agree"),
        ([1], 0, "all 2 verdicts agree"),
        (False, 1, "different: 1 line 2, sample 0: stored as incorrect, now correct"),
        (None, 1, "missing: 1 line 2, sample 0"),
        ("yes", 1, "line 2: field 'check.ok' (the verdict) is neither true nor false"),
        ([True, True], 1, "2 verdicts for 1 samples"),
    ],
)
def test_verify_compares_with_verdicts_in_rows(
    stored: Any, status: int, expected: str, tmp_path: Path, said: Any
) -> None:
    rows = [FIVE[3] | {"check": {"ok": False}}, FIVE[0] | {"check": {"ok": stored}}]
    got, text = said(write(tmp_path / "x.jsonl", rows), "--verify", "--verdict", "check.ok")
    assert got == status
    assert expected in text


def test_verdicts_of_samples_are_compared_one_by_one(tmp_path: Path, said: Any) -> None:
    row = {"completion": ["#### 5", "#### 6", "#### 5"], "answer": 5, "correct": [True, True]}
    status, text = said(write(tmp_path / "x.jsonl", [row]), "--verify")
    assert status == 1
    assert "different: 1 line 1, sample 1: stored as correct" in text
    assert "missing: 1 line 1, sample 2" in text


def test_a_later_row_without_a_verdict_is_a_missing_one(tmp_path: Path, said: Any) -> None:
    status, text = said(
        write(tmp_path / "x.jsonl", [FIVE[0] | {"is_correct": True}, FIVE[1]]), "--verify"
    )
    assert status == 1
    assert "missing: 1 line 2, sample 0" in text


def test_published_verdicts_on_gsm8k_are_reproduced(real_data: Path, said: Any) -> None:
    file = real_data / "recorded" / "gsm8k_model_solutions.jsonl"
    name = "175b_verification"
    fields = [
        f"--completion={name}.solution",
        "--gold=ground_truth",
        f"--verdict={name}.is_correct",
    ]
    status, text = said(file, *fields, "--verify", "--expect=1319")
    assert status == 0
    assert "all 1319 verdicts agree" in text


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """An evaluation of three problems, two samples each; one answer in four is right, one sample
    broke at first.
    """
    file = RecordFile(tmp_path, {"agent": "a"})
    for n in (1, 2, 3):
        task = Task(
            Problem(f"p/{n}", f"What is {n} + 1?", "num" if n == 3 else "math"),
            str(n + 1),
            tolerance=0.1,
        )
        if n == 2:
            file.add(record(grade_trace(task, Trace(task.problem, 1, (), None, error="refused"))))
        for sample, answer in enumerate(["2", "3.05" if n == 2 else "4.05"]):
            file.add(record(grade_trace(task, Trace(task.problem, sample, (), answer))))
    file.close(finished=True)
    return file.path


def test_stored_answers_of_an_evaluation_are_graded(records: Path, said: Any) -> None:
    status, text = said(records)
    assert status == 0
    assert text.startswith("2 of 6 samples correct")  # 2 for 1 + 1, and 4.05 for 3 + 1 up to 0.1
    assert "samples 6, of 3 problems" in text
    assert [v["id"] for v in load(records.with_name("records.graded.jsonl"))] == [
        f"p/{n}" for n in (1, 1, 2, 2, 3, 3)
    ]


def test_verify_agrees_with_an_evaluation(records: Path, said: Any) -> None:
    assert said(records, "--verify", "--expect=3") == (
        0,
        "all 6 verdicts agree with those in the rows",
    )


BROKEN_EVALUATIONS: dict[str, tuple[Callable[[Rows], Rows], list[str]]] = {
    "flipped": (
        lambda r: changed(r, 0, correct=False),
        ["different: 1 line 1, sample 0: stored as incorrect"],
    ),
    "rules": (
        lambda r: changed(r, -1 + 7, tolerance=None),
        ["different: 1 line 7, sample 1: stored as correct"],
    ),
    "duplicate": (
        lambda r: [*r, r[0]],
        ["duplicate: 1 line 8: sample 0 of p/1 is already in line 1"],
    ),
    "missing": (lambda r: r[:-1], ["manifest.json counts 6 records, not 5", "sample 1 of p/3"]),
    "error": (
        lambda r: changed(r, 6, answer=None, error="refused"),
        ["5 verdicts agree", "broken: 1"],
    ),
    "no record": (lambda r: [*r, FIVE[0]], ["could not be read: 1 row", "line 8", "'sample'"]),
}


@pytest.mark.parametrize("kind", BROKEN_EVALUATIONS)
def test_verify_finds_what_is_wrong_with_an_evaluation(kind: str, records: Path, said: Any) -> None:
    change, expected = BROKEN_EVALUATIONS[kind]
    write(records, change(load(records)))
    status, text = said(records, "--verify")
    assert status == (0 if kind == "error" else 1)
    for part in expected:
        assert part in text


def test_verify_says_that_an_evaluation_is_partial(records: Path, said: Any) -> None:
    manifest = records.with_name("manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"partial": True}))
    status, text = said(records, "--verify")
    assert status == 1
    assert "the evaluation is partial" in text


def test_broken_sample_counts_as_incorrect(records: Path, said: Any) -> None:
    write(records, changed(load(records), 6, answer=None, error="refused"))
    _, text = said(records)
    assert text.startswith("1 of 6 samples correct")
    assert "broken: 1 of the evaluation's samples" in text


def test_verify_finds_a_duplicate_row(tmp_path: Path, said: Any) -> None:
    rows = [
        {"id": id, "completion": "#### 1", "answer": "1", "correct": True}
        for id in ("a", "b", "c", "b")
    ]
    file = tmp_path / "rows.jsonl"
    write(file, rows)
    status, text = said(file, "--verify")
    assert status == 1
    assert "b has 2 rows, most have 1" in text


def test_verify_compares_reasons_and_methods(tmp_path: Path, said: Any) -> None:
    file = tmp_path / "rows.jsonl"
    write(file, [{"completion": "#### 1", "answer": "1"}, {"completion": "#### 2", "answer": "1"}])
    said(file)
    graded = tmp_path / "rows.graded.jsonl"
    write(graded, changed(load(graded), 1, reason="hedged"))
    status, text = said(file, "--verify")
    assert status == 1
    assert "hedged" in text


def test_it_says_which_fields_are_compared(tmp_path: Path, said: Any) -> None:
    file = tmp_path / "rows.jsonl"
    write(file, [{"solution": "#### 1", "answer": "1", "other": "#### 2"}])
    assert "completion from 'solution', gold from 'answer'" in said(file)[1]
