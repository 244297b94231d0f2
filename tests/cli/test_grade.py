"""`slm-math grade`: verdicts beside the file, a summary, verification of verdicts, explanations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.rows import FIVE, Rows, load, write

from slm_math.answers import grade
from slm_math.cli import run
from slm_math.grading import scoring


def test_grade_scores_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"response": r"so \boxed{\frac{1}{2}}", "answer": "0.5"},
        {"response": "#### 12", "answer": "6*2 = 12 #### 12"},
        {"response": "no idea", "answer": "3"},
    ]
    file = tmp_path / "said.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    run(["grade", f"--file={file}"])
    assert capsys.readouterr().out.startswith("2 of 3 correct: 66.7 %")
    verdicts = [
        json.loads(line) for line in (tmp_path / "said.graded.jsonl").read_text().splitlines()
    ]
    assert [(verdict["line"], verdict["correct"]) for verdict in verdicts] == [
        (1, True),
        (2, True),
        (3, False),
    ]


def test_a_second_opinion_makes_the_accuracy_a_range(tmp_path: Path, said: Any) -> None:
    rows = [
        {"response": "\\boxed{5}", "answer": "5"},
        {"response": r"\boxed{17 \times 23}", "answer": "391"},
        {"response": "\\boxed{3}", "answer": "4"},
        {"response": "no idea", "answer": "4"},
    ]
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    status, text = said(file, "--second_opinion")
    assert status == 0
    assert (
        "accuracy 25.0 % if every disputed verdict is wrong, 50.0 % if every one is right" in text
    )
    assert "of 3 verdicts 1 are disputed (0 correct here, 1 there), no opinion on 1" in text
    assert "line 2: 17 \\times 23 for 391: incorrect (unevaluated) here; correct there" in text
    verdicts = load(tmp_path / "x.graded.jsonl")
    assert [v["second_opinion"] for v in verdicts] == [True, True, False, None]
    assert verdicts[0]["second_readings"] == ["5", "5", "5"]


def test_verdicts_go_beside_the_file_and_the_summary_says_what_they_came_to(
    tmp_path: Path, said: Any
) -> None:
    file = write(tmp_path / "x.jsonl", FIVE)
    status, text = said(file)
    assert status == 0
    verdicts = load(tmp_path / "x.graded.jsonl")
    assert [v["line"] for v in verdicts] == [1, 2, 3, 4, 5]
    assert [v["id"] for v in verdicts] == list("abcde")
    assert [v["correct"] for v in verdicts] == [True, False, False, False, True]
    assert [v["lenient"] for v in verdicts] == [True, True, False, False, True]
    assert [v["reason"] for v in verdicts] == ["equal", "no answer", "hedged", "different", "equal"]
    assert all(v["seconds"] > 0 for v in verdicts)
    # sha256sum of `so \boxed{5}` and of `5`
    assert verdicts[0]["completion_hash"] == "c6534cec12cef6e4"
    assert verdicts[0]["gold_hash"] == "ef2d127de37b942b"
    assert text.startswith("2 of 5 correct: 40.0 % [11.8, 76.9]")  # Wilson, by hand
    assert "if the last number counts 60.0 % [23.1, 88.2], 1 verdict changes" in text
    assert "no answer, hedged 20.0 %, 20.0 %" in text
    assert "truncated 20.0 % form of the answer box 40.0 %, hashes 40.0 %, none 20.0 %" in text
    assert "no answer 1, hedged 1, different 1" in text
    assert not (tmp_path / "x.graded.jsonl.partial").exists()


def test_the_last_number_is_accepted_when_asked_for(tmp_path: Path, said: Any) -> None:
    assert said("--last_number", write(tmp_path / "x.jsonl", FIVE))[1].startswith("3 of 5 correct")


def test_a_row_that_cannot_be_read_does_not_lose_the_others(tmp_path: Path, said: Any) -> None:
    file = write(tmp_path / "x.jsonl", FIVE[:2])
    file.write_text(
        file.read_text() + '{"completion": \n' + json.dumps({"completion": "#### 5"}) + "\n"
    )
    status, text = said(file)
    assert status == 1
    assert "1 of 2 correct" in text
    assert "could not be read: 2 rows" in text
    assert "line 3: not JSON" in text
    assert "line 4: no gold" in text
    assert [("error" in v, v["line"]) for v in load(tmp_path / "x.graded.jsonl")] == [
        (False, 1), (False, 2), (True, 3), (True, 4),
    ]  # fmt: skip


def test_several_samples_are_counted_one_by_one_and_together(tmp_path: Path, said: Any) -> None:
    rows = [
        {"output": ["#### 5", "#### 6"], "gold": 5},
        {"output": ["#### 5", "#### 5"], "gold": 6},
    ]
    _, text = said(write(tmp_path / "x.jsonl", rows))
    assert "1 of 4 samples correct; mean over 2 problems: 25.0 %" in text
    assert "samples 4, of 2 problems" in text
    assert "no answer, hedged 0.0 %, 0.0 %" in text
    assert "any of 2 correct 50.0 % [9.5, 90.5]" in text  # Wilson for 1 of 2
    assert [(v["line"], v["sample"]) for v in load(tmp_path / "x.graded.jsonl")] == [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]


def test_an_estimate_says_so(tmp_path: Path, said: Any) -> None:
    _, text = said(write(tmp_path / "x.jsonl", [{"completion": r"\boxed{5", "answer": 5}]))
    assert "truncated 100.0 % (an estimate)" in text


def test_undecided_answers_are_counted_and_reported(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = grade("#### 7", "5")._replace(reason="timeout")
    monkeypatch.setattr(scoring, "grade_reply", lambda *_, **__: verdict)
    _, text = said(write(tmp_path / "x.jsonl", FIVE[:2]))
    assert "undecided: 2 (timeout 2), counted as incorrect; in line 1, 2" in text


def test_a_fault_of_the_grader_costs_one_row(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scoring.grade_reply
    monkeypatch.setattr(
        scoring, "grade_reply", lambda text, *rest: 1 // 0 if "7" in text else real(text, *rest)
    )
    status, text = said(write(tmp_path / "x.jsonl", FIVE))
    assert status == 1
    assert "2 of 4 correct" in text
    assert "line 4: the grader failed (ZeroDivisionError" in text


def test_ctrl_c_keeps_what_was_graded(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(case: Any, *rest: Any) -> Any:
        if case.line == 4:
            raise KeyboardInterrupt
        return real(case, *rest)

    real = scoring.grade_case
    monkeypatch.setattr(scoring, "grade_case", interrupted)
    status, text = said(write(tmp_path / "x.jsonl", FIVE))
    assert status == 130
    assert "Interrupted. Verdicts so far are in" in text
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
        f"from slm_math.cli import run; run(['grade', {str(file)!r}]); run(['grade', "
        f"{str(file)!r}, '--verify'])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert "2 of 5 correct" in out
    assert "all 5 verdicts agree" in out


MISTAKES: dict[str, tuple[Rows, list[str], list[str]]] = {
    "no completion": (
        [{"text": {"x": "5"}, "answer": 5}],
        [],
        ["line 1", "text.x, answer", "--completion FIELD"],
    ),
    "no gold": ([{"completion": "5", "q": 1}], [], ["line 1", "completion, q", "--gold FIELD"]),
    "no such field": (
        FIVE,
        ["--completion=text"],
        ["line 1", "'text' is missing", "--completion FIELD"],
    ),
    "two golds": (
        [{"completion": "5", "answer": "5", "gold": "6"}],
        [],
        ["line 1", "--gold answer or --gold gold"],
    ),
    "over the input": (FIVE, ["--out=FILE"], ["the input itself", "--out"]),
    "empty": ([], [], ["is empty"]),
    "nothing to verify": (FIVE, ["--verify"], ["x.graded.jsonl does not exist", "--verdict"]),
    "no verdict": (
        FIVE,
        ["--verify", "--verdict=right"],
        ["line 1", "'right' is missing", "--verdict FIELD"],
    ),
    "tolerance of nothing": (FIVE, ["--tolerance=0.1"], ["--tolerance", "--answer_type num"]),
    "tolerance of math": (FIVE, ["--tolerance=0.1", "--answer_type=math"], ["--answer_type num"]),
    "choices of nothing": (FIVE, ["--choices=id"], ["--choices", "--answer_type mc"]),
    "no tolerance": (FIVE, ["--tolerance=much", "--answer_type=num"], ["tolerance 'much'"]),
    "no workers": (FIVE, ["--workers=0"], ["workers must be at least 1"]),
    "file and explain": (FIVE, ["--explain=5"], ["either a file"]),
    "wrong type": (FIVE, ["--answer_type=word"], ["answer_type", "is none of math, mc, num"]),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_answered_in_a_line_and_leaves_nothing(
    kind: str, tmp_path: Path, said: Any
) -> None:
    rows, options, expected = MISTAKES[kind]
    file = write(tmp_path / "x.jsonl", rows)
    before = file.read_bytes()
    status, text = said(file, *(option.replace("FILE", str(file)) for option in options))
    assert status == 2
    for part in expected:
        assert part in text
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_golds_that_differ_in_a_later_row_stop_the_run_and_keep_what_was_graded(
    tmp_path: Path, said: Any
) -> None:
    status, text = said(write(tmp_path / "x.jsonl", [*FIVE, FIVE[0] | {"gold": "9"}]))
    assert status == 2
    assert "line 6: fields 'answer' (5) and 'gold' (9) differ" in text
    assert len(load(tmp_path / "x.graded.jsonl.partial")) == 5
    assert not (tmp_path / "x.graded.jsonl").exists()


def test_the_input_is_not_overwritten_under_its_temporary_name_either(
    tmp_path: Path, said: Any
) -> None:
    file = write(tmp_path / "x.partial", FIVE)
    assert said(file, f"--out={tmp_path / 'x'}")[0] == 2
    assert load(file) == FIVE


def test_explain_shows_the_steps_for_texts(said: Any) -> None:
    status, text = said(
        "--explain", r"so \boxed{2+3}", "--gold", "#### 5", "--problem", "What is 2+3?"
    )
    assert status == 0
    assert "2+3" in text
    assert "unevaluated" in text
    _, text = said(
        "--explain", "(B)", "--gold=B", "--answer_type=mc", "--choices", '["[b]one", "two"]'
    )
    assert "right" in text


@pytest.mark.parametrize("text", ["#### 5", "null", "[5]", "5: 6", "-5", "'5'"])
def test_texts_to_explain_are_not_read_as_yaml(
    text: str, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def explain(completion: str, gold: str, problem: str, **rules: Any) -> list[tuple[str, str]]:
        seen.extend((completion, gold, problem))
        return []

    monkeypatch.setattr("slm_math.grading.steps.explain", explain)
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
def test_error_in_an_explanation_is_reported(options: list[str], expected: str, said: Any) -> None:
    status, text = said(*options)
    assert status == 2
    assert expected in text
