"""`slm-math grade`: verdicts beside the file, a summary, verification of verdicts, explanations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slm_math.cli import run
from slm_math.evaluation.records import RecordFile
from slm_math.grading import scoring
from slm_math.rollout.record import record
from slm_math.types import Problem, Task, Trace

Rows = list[dict[str, Any]]
FIVE = [
    {"id": "a", "completion": r"so \boxed{5}", "answer": "2 + 3 #### 5", "finish_reason": "stop"},
    {"id": "b", "completion": "we count up to 5 and", "answer": "5", "finish_reason": "length"},
    {"id": "c", "completion": r"\boxed{5 \text{ or } 6}", "answer": "5", "finish_reason": "stop"},
    {"id": "d", "completion": "#### 7", "answer": "5", "finish_reason": "stop"},
    {"id": "e", "completion": [{"role": "assistant", "content": "#### 5"}], "answer": 5, "finish_reason": "stop"},
]


def write(file: Path, rows: Rows) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def load(file: Path) -> Rows:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs `slm-math grade` and gives its exit status and all that it says."""

    def grade(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        status = 0
        try:
            run(["grade", *map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        streams = capsys.readouterr()
        return status, " ".join((streams.out + streams.err).replace("│", " ").split())

    return grade


# -- grading -----------------------------------------------------------------------------------------------------


def test_verdicts_go_beside_the_file_and_the_summary_says_what_they_came_to(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.jsonl", FIVE)
    status, text = said(file)
    assert status == 0
    verdicts = load(tmp_path / "x.graded.jsonl")
    assert [v["line"] for v in verdicts] == [1, 2, 3, 4, 5]
    assert [v["id"] for v in verdicts] == list("abcde")
    assert [v["correct"] for v in verdicts] == [True, False, False, False, True]
    assert [v["lenient"] for v in verdicts] == [True, True, False, False, True]
    assert [v["reason"] for v in verdicts] == ["equal", "no answer", "hedged", "different", "equal"]
    assert all(0 < v["seconds"] < 60 for v in verdicts)
    # sha256sum of `so \boxed{5}` and of `5`
    assert verdicts[0]["completion_hash"] == "c6534cec12cef6e4"
    assert verdicts[0]["gold_hash"] == "ef2d127de37b942b"
    assert text.startswith("2 of 5 right: 40.0 % [11.8, 76.9]")  # Wilson, by hand
    assert "if the last number counts 60.0 % [23.1, 88.2], 1 verdict changes" in text
    assert "no answer, hedged 20.0 %, 20.0 %" in text
    assert "cut off 20.0 % answer found by box 40.0 %, hashes 40.0 %, none 20.0 %" in text
    assert "no answer 1, hedged 1, different 1" in text
    assert not (tmp_path / "x.graded.jsonl.partial").exists()


def test_the_last_number_is_accepted_when_asked_for(tmp_path: Path, said: Any) -> None:
    assert said("--last_number", write(tmp_path / "x.jsonl", FIVE))[1].startswith("3 of 5 right")


def test_a_row_that_cannot_be_read_does_not_lose_the_others(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.jsonl", FIVE[:2])
    file.write_text(file.read_text() + '{"completion": \n' + json.dumps({"completion": "#### 5"}) + "\n")
    status, text = said(file)
    assert status == 1
    assert "1 of 2 right" in text
    assert "could not be read: 2 rows" in text
    assert "line 3: not JSON" in text
    assert "line 4: no gold" in text
    assert [("error" in v, v["line"]) for v in load(tmp_path / "x.graded.jsonl")] == [
        (False, 1), (False, 2), (True, 3), (True, 4),
    ]  # fmt: skip


def test_several_samples_are_counted_one_by_one_and_together(tmp_path: Path, said: Any) -> None:
    rows = [{"output": ["#### 5", "#### 6"], "gold": 5}, {"output": ["#### 5", "#### 5"], "gold": 6}]
    _, text = said(write(tmp_path / "x.jsonl", rows))
    assert "1 of 4 right: 25.0 %" in text
    assert "samples 4, of 2 problems" in text
    assert "no answer, hedged 0.0 %, 0.0 %" in text
    assert "any of 2 right 50.0 % [9.5, 90.5]" in text  # Wilson for 1 of 2
    assert [(v["line"], v["sample"]) for v in load(tmp_path / "x.graded.jsonl")] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_an_estimate_says_so(tmp_path: Path, said: Any) -> None:
    _, text = said(write(tmp_path / "x.jsonl", [{"completion": r"\boxed{5", "answer": 5}]))
    assert "cut off 100.0 % (an estimate)" in text


def test_what_the_grader_cannot_decide_is_counted_aloud(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = replace(scoring.grade("#### 7", "5"), reason="timeout")
    monkeypatch.setattr(scoring, "grade", lambda *_, **__: verdict)
    _, text = said(write(tmp_path / "x.jsonl", FIVE[:2]))
    assert "undecided: 2 (timeout 2), counted as not correct; in line 1, 2" in text


def test_a_fault_of_the_grader_costs_one_row(tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scoring.grade
    monkeypatch.setattr(scoring, "grade", lambda text, *a, **k: 1 // 0 if "7" in text else real(text, *a, **k))
    status, text = said(write(tmp_path / "x.jsonl", FIVE))
    assert status == 1
    assert "2 of 4 right" in text
    assert "line 4: the grader failed (ZeroDivisionError" in text


def test_ctrl_c_keeps_what_was_graded(tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(case: Any, last_number: bool) -> Any:
        if case.line == 4:
            raise KeyboardInterrupt
        return real(case, last_number)

    real = scoring.score
    monkeypatch.setattr(scoring, "score", interrupted)
    status, text = said(write(tmp_path / "x.jsonl", FIVE))
    assert status == 130
    assert "kept in" in text
    assert [v["line"] for v in load(tmp_path / "x.graded.jsonl.partial")] == [1, 2, 3]
    assert not (tmp_path / "x.graded.jsonl").exists()


def test_what_others_wrote_is_printed_as_it_is(tmp_path: Path, said: Any) -> None:
    rows = [FIVE[0], FIVE[0] | {"answer_type": "[red]x[/red]\x1b[31m"}]
    file = write(tmp_path / "[b]x.jsonl", rows)
    _, text = said(file)
    assert r"[red]x[/red]\x1b[31m" in text
    assert "\x1b" not in text
    assert "[b]x.graded.jsonl" in text


def test_expect_is_the_number_of_problems(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.jsonl", FIVE)
    assert said(file, "--expect=5")[0] == 0
    status, text = said(file, "--expect=6")
    assert status == 1
    assert "expected 6 problems, but there are 5" in text


def test_neither_torch_nor_its_friends_are_needed(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", FIVE)
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'lightning'): sys.modules[name] = None\n"
        f"from slm_math.cli import run; run(['grade', {str(file)!r}]); run(['grade', {str(file)!r}, '--verify'])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "2 of 5 right" in out
    assert "all 5 verdicts agree" in out


# -- mistakes ----------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Rows, list[str], list[str]]] = {
    "no completion": ([{"text": {"x": "5"}, "answer": 5}], [], ["line 1", "text.x, answer", "--completion FIELD"]),
    "no gold": ([{"completion": "5", "q": 1}], [], ["line 1", "completion, q", "--gold FIELD"]),
    "no such field": (FIVE, ["--completion=text"], ["line 1", "'text' is missing", "--completion FIELD"]),
    "two golds": ([{"completion": "5", "answer": "5", "gold": "6"}], [], ["line 1", "--gold answer or --gold gold"]),
    "over the input": (FIVE, ["--out=FILE"], ["the input itself", "--out"]),
    "empty": ([], [], ["is empty"]),
    "nothing to verify": (FIVE, ["--verify"], ["x.graded.jsonl does not exist", "--verdict"]),
    "no verdict": (FIVE, ["--verify", "--verdict=right"], ["line 1", "'right' is missing", "--verdict FIELD"]),
    "verdict alone": (FIVE, ["--verdict=right"], ["give --verify"]),
    "tolerance of nothing": (FIVE, ["--tolerance=0.1"], ["--tolerance", "--answer_type num"]),
    "tolerance of math": (FIVE, ["--tolerance=0.1", "--answer_type=math"], ["--answer_type num"]),
    "choices of nothing": (FIVE, ["--choices=id"], ["--choices", "--answer_type mc"]),
    "no tolerance": (FIVE, ["--tolerance=much", "--answer_type=num"], ["tolerance 'much'"]),
    "no workers": (FIVE, ["--workers=0"], ["workers must be at least 1"]),
    "file and explain": (FIVE, ["--explain=5"], ["either a file"]),
    "wrong type": (FIVE, ["--answer_type=word"], ["answer_type", "'math', 'mc', 'num'"]),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_answered_in_a_line_and_leaves_nothing(kind: str, tmp_path: Path, said: Any) -> None:
    rows, options, expected = MISTAKES[kind]
    file = write(tmp_path / "x.jsonl", rows)
    before = file.read_bytes()
    status, text = said(file, *(option.replace("FILE", str(file)) for option in options))
    assert status == 2
    for part in expected:
        assert part in text
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_golds_that_differ_in_a_later_row_stop_the_run_and_keep_what_was_graded(tmp_path: Path, said: Any) -> None:
    status, text = said(write(tmp_path / "x.jsonl", [*FIVE, FIVE[0] | {"gold": "9"}]))
    assert status == 2
    assert "line 6: fields 'answer' (5) and 'gold' (9) differ" in text
    assert len(load(tmp_path / "x.graded.jsonl.partial")) == 5
    assert not (tmp_path / "x.graded.jsonl").exists()


def test_the_input_is_not_overwritten_under_its_temporary_name_either(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.partial", FIVE)
    assert said(file, f"--out={tmp_path / 'x'}")[0] == 2
    assert load(file) == FIVE


# -- verifying a file of verdicts --------------------------------------------------------------------------------


def changed(verdicts: Rows, at: int, **values: Any) -> Rows:
    return [v | values if i == at else v for i, v in enumerate(verdicts)]


TAMPERED: dict[str, tuple[Callable[[Rows], Rows], list[str]]] = {
    "right turned": (lambda v: changed(v, 3, correct=True), ["different: 1", "line 4, sample 0", "stored as right"]),
    "other answer": (lambda v: changed(v, 3, answer="8"), ["different: 1", "line 4", "'8'", "'7'"]),
    "missing": (lambda v: v[:1] + v[2:], ["missing: 1", "line 2, sample 0"]),
    "missing at the end": (lambda v: v[:-1], ["missing: 1", "line 5, sample 0"]),
    "twice": (lambda v: [*v[:2], v[1], *v[2:]], ["twice", "line 2, sample 0 in x.graded.jsonl, line 3"]),
    "twice at the end": (lambda v: [*v, v[0]], ["twice", "line 1, sample 0 in x.graded.jsonl, line 6"]),
    "of no row": (lambda v: [*v, v[0] | {"line": 9}], ["of no sample", "line 9"]),
    "of no sample": (lambda v: [*v, v[4] | {"sample": 1}], ["of no sample", "line 5, sample 1"]),
    "not a verdict": (lambda v: [*v, {"line": 1}], ["unreadable: 1", "line 6", "'sample'"]),
    "other completion": (
        lambda v: changed(v, 0, completion_hash="0"),
        ["changed since: 1", "line 1", "the completion"],
    ),
    "other gold": (lambda v: changed(v, 0, gold_hash="0"), ["changed since: 1", "line 1", "the gold"]),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_verify_finds_what_is_wrong_with_a_file_of_verdicts(kind: str, tmp_path: Path, said: Any) -> None:
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
    assert "changed since: 1 line 1, sample 0 (x.graded.jsonl, line 1): the completion 4 verdicts agree" in text


def test_only_the_first_ten_differences_are_shown(tmp_path: Path, said: Any) -> None:
    rows = [{"completion": "#### 5", "answer": 5, "correct": i == 0} for i in range(15)]
    status, text = said(write(tmp_path / "x.jsonl", rows), "--verify")
    assert status == 1
    assert "different: 14, the first 10:" in text
    assert "line 11," in text
    assert "line 12," not in text


# -- verifying verdicts in rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "status", "expected"),
    [
        (True, 0, "all 2 verdicts agree"),
        ([1], 0, "all 2 verdicts agree"),
        (False, 1, "different: 1 line 2, sample 0: stored as not right, now right"),
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
    assert "different: 1 line 1, sample 1: stored as right" in text
    assert "missing: 1 line 1, sample 2" in text


def test_a_later_row_without_a_verdict_is_a_missing_one(tmp_path: Path, said: Any) -> None:
    status, text = said(write(tmp_path / "x.jsonl", [FIVE[0] | {"is_correct": True}, FIVE[0]]), "--verify")
    assert status == 1
    assert "missing: 1 line 2, sample 0" in text


def test_published_verdicts_on_gsm8k_are_reproduced(real_data: Path, said: Any) -> None:
    file = real_data / "recorded" / "gsm8k_model_solutions.jsonl"
    name = "175b_verification"
    fields = [f"--completion={name}.solution", "--gold=ground_truth", f"--verdict={name}.is_correct"]
    status, text = said(file, *fields, "--verify", "--expect=1319")
    assert status == 0
    assert "all 1319 verdicts agree" in text


# -- verifying an evaluation -------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """An evaluation of three problems, two samples each; one answer in four is right, one sample broke at first."""
    file = RecordFile(tmp_path, {"agent": "a"})
    for n in (1, 2, 3):
        task = Task(Problem(f"p/{n}", f"What is {n} + 1?", "num" if n == 3 else "math"), str(n + 1), tolerance=0.1)
        if n == 2:
            file.add(record(task, Trace(task.problem, 1, (), None, error="refused")))
        for sample, answer in enumerate(["2", "3.05" if n == 2 else "4.05"]):
            file.add(record(task, Trace(task.problem, sample, (), answer)))
    file.records.pop()  # as a rerun counts them: a sample that broke and was tried again is one record
    file.close(finished=True)
    return file.path


def test_stored_answers_of_an_evaluation_are_graded(records: Path, said: Any) -> None:
    status, text = said(records)
    assert status == 0
    assert text.startswith("2 of 6 right")  # 2 for 1 + 1, and 4.05 for 3 + 1 up to 0.1
    assert "samples 6, of 3 problems" in text
    assert [v["id"] for v in load(records.with_name("records.graded.jsonl"))] == [f"p/{n}" for n in (1, 1, 2, 2, 3, 3)]


def test_verify_agrees_with_an_evaluation(records: Path, said: Any) -> None:
    assert said(records, "--verify", "--expect=3") == (0, "all 6 verdicts agree with those in the rows")


BROKEN_EVALUATIONS: dict[str, tuple[Callable[[Rows], Rows], list[str]]] = {
    "turned": (lambda r: changed(r, 0, correct=False), ["different: 1 line 1, sample 0: stored as not right"]),
    "rules": (lambda r: changed(r, -1 + 7, tolerance=None), ["different: 1 line 7, sample 1: stored as right"]),
    "twice": (lambda r: [*r, r[0]], ["twice: 1 line 8: sample 0 of p/1 stands in line 1 already"]),
    "missing": (lambda r: r[:-1], ["manifest.json counts 6 records, not 5", "sample 1 of p/3"]),
    "error": (lambda r: changed(r, 6, answer=None, error="refused"), ["5 verdicts agree", "broken: 1"]),
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


def test_a_sample_that_stayed_broken_counts_as_not_right(records: Path, said: Any) -> None:
    write(records, changed(load(records), 6, answer=None, error="refused"))
    _, text = said(records)
    assert text.startswith("1 of 6 right")
    assert "broken: 1 of the evaluation's samples" in text


# -- explaining --------------------------------------------------------------------------------------------------


def test_explain_shows_the_steps_for_texts(said: Any) -> None:
    status, text = said("--explain", r"so \boxed{2+3}", "--gold", "#### 5", "--problem", "What is 2+3?")
    assert status == 0
    assert "2+3" in text
    assert "unevaluated" in text
    _, text = said("--explain", "(B)", "--gold=B", "--answer_type=mc", "--choices", '["[b]one", "two"]')
    assert "right" in text


@pytest.mark.parametrize("text", ["#### 5", "null", "[5]", "5: 6", "-5", "'5'"])
def test_texts_to_explain_are_not_read_as_yaml(text: str, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("slm_math.grading.steps.explain", lambda *texts: seen.extend(texts[:3]) or [])
    assert said("--explain", text, "--gold", "5 " + text, "--problem", text)[0] == 0
    assert seen == [text, "5" if text == "#### 5" else "5 " + text, text]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--explain=5"], "--gold TEXT"),
        (["--explain=5", "--gold=5", "--answer_type=mc", "--choices=a"], "JSON list"),
        (["--explain=5", "--gold=5", "--tolerance=1"], "--answer_type num"),
        ([], "either a file"),
    ],
)
def test_a_mistake_in_explaining_is_told(options: list[str], expected: str, said: Any) -> None:
    status, text = said(*options)
    assert status == 2
    assert expected in text


def test_verify_finds_a_row_that_stands_twice(tmp_path: Path, said: Any) -> None:
    rows = [{"id": id, "completion": "#### 1", "answer": "1", "correct": True} for id in ("a", "b", "c", "b")]
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
    write(file, [{"solution": "#### 1", "answer": "1", "generated": "#### 2"}])
    assert "completion from 'solution', gold from 'answer'" in said(file)[1]
