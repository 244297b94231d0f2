"""`slm-math grade` on the files of other tools: which text is the completion, and rows twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.rows import Rows, write

from slm_math.grading.completions import cases
from slm_math.grading.fields import AmbiguousRow, Fields

RIGHT, WRONG = "We add them: \\boxed{12}", "We add them: \\boxed{13}"
REFERENCE = "7 + 5 = 12, thus \\boxed{12}."

# layouts as other tools write them; one of two completions is right in each
LAYOUTS: dict[str, dict[str, Any]] = {
    "Qwen2.5-Math": {
        "idx": 0, "question": "7 and 5?", "gt_cot": REFERENCE, "gt": "12", "solution": REFERENCE,
        "answer": "12", "code": [RIGHT, WRONG], "pred": ["12", "13"], "report": [None, None],
        "score": [True, False],
    },
    "OpenR1-Math": {
        "problem": "7 and 5?", "solution": REFERENCE, "answer": "12", "source": "own",
        "generations": [RIGHT, WRONG], "correctness_math_verify": [True, False],
    },
    "reference as a solution only": {
        "problem": "7 and 5?", "solution": REFERENCE, "completions": [WRONG, RIGHT],
    },
    "lm-eval": {
        "doc_id": 0, "doc": {"question": "7 and 5?", "answer": "7 + 5 = 12\n#### 12"},
        "target": "7 + 5 = 12\n#### 12", "resps": [[RIGHT, WRONG]], "filtered_resps": ["12"],
        "filter": "strict-match",
    },
    "OpenMathInstruct": {
        "problem": "7 and 5?", "generated_solution": [RIGHT, WRONG], "expected_answer": "12",
    },
    "a response of a model beside the solution": {
        "problem": "7 and 5?", "solution": REFERENCE, "answer": "12",
        "model_response": [RIGHT, WRONG],
    },
    "lighteval": {
        "doc": {"query": "7 and 5?", "choices": ["11", "12"], "gold_index": [1], "id": "0"},
        "model_response": {"text": [RIGHT, WRONG], "input": "7 and 5?"}, "metric": {"em": 0.5},
    },
    "verl's parquet": {
        "prompt": [{"role": "user", "content": "7 and 5?"}], "responses": [RIGHT, WRONG],
        "reward_model": {"style": "rule", "ground_truth": "12"},
    },
    "verl": {"input": "7 and 5?", "output": [RIGHT, WRONG], "gts": "12", "score": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("tool", LAYOUTS)
def test_a_reference_is_never_graded_against_itself(tool: str) -> None:
    read = cases(LAYOUTS[tool], 1, Fields())
    assert {case.completion for case in read} == {RIGHT, WRONG}
    assert {case.task.gold for case in read} == {"12"}


@pytest.mark.parametrize(
    "name",
    ["generation", "generations", "code", "completions", "pred", "response", "output", "resps"],
)
def test_a_failed_completion_is_not_replaced_by_the_reference(name: str) -> None:
    [case] = cases({name: None, "solution": REFERENCE, "answer": "12"}, 1, Fields())
    assert case.completion == ""


def test_of_two_different_completions_one_must_be_named(tmp_path: Path, said: Any) -> None:
    row = {"output": RIGHT, "response": WRONG, "answer": "12"}
    with pytest.raises(AmbiguousRow, match="'response' and 'output' differ"):
        cases(row, 1, Fields())
    file = write(tmp_path / "x.jsonl", [row])
    status, text = said(file)
    assert status == 2
    assert "--completion response or --completion output" in text
    assert said(file, "--completion=output")[1].startswith("1 of 1 correct")


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"output": REFERENCE, "prediction": WRONG}, ("output", "prediction")),
        ({"response": REFERENCE, "generation": WRONG}, ("response", "generation")),
        ({"solution": REFERENCE, "llm_text": WRONG}, ("solution", "llm_text")),
        ({"solution": REFERENCE, "sampled": [WRONG, WRONG]}, ("solution", "sampled")),
        (
            {"solution": REFERENCE, "messages": [{"role": "assistant", "content": REFERENCE}]},
            ("messages", "solution"),
        ),
    ],
)
def test_what_may_be_the_reference_is_asked_for(
    row: dict[str, Any], names: tuple[str, str], tmp_path: Path, said: Any
) -> None:
    status, text = said(write(tmp_path / "x.jsonl", [row | {"answer": "12"}]))
    assert status == 2
    assert f"fields {names[0]!r} and {names[1]!r}" in text
    assert f"--completion {names[0]}" in text


@pytest.mark.parametrize(
    "row",
    [
        {"response": r"We get one half: \boxed{\frac12}", "prediction": "1/2"},
        {"output": r"We get one half of it: \boxed{1/2}", "prediction": "one half of it"},
        {"solution": r"We get \boxed{1/2}", "response_time": 3.5, "model_name": "a"},
    ],
)
def test_an_extracted_answer_beside_a_completion_is_no_doubt(
    row: dict[str, Any], tmp_path: Path, said: Any
) -> None:
    file = write(tmp_path / "x.jsonl", [row | {"answer": "1/2"}])
    assert said(file)[1].startswith("1 of 1 correct")


def test_a_row_with_the_reference_alone_is_not_graded_like_those_before(
    tmp_path: Path, said: Any
) -> None:
    rows: Rows = [
        {"generation": WRONG, "solution": REFERENCE, "answer": "12"},
        {"solution": REFERENCE, "answer": "12"},
    ]
    status, text = said(write(tmp_path / "x.jsonl", rows))
    assert status == 1
    assert text.startswith("0 of 1 correct")
    assert "line 2: no completion" in text


def test_a_gold_that_no_reply_can_equal_is_not_graded(tmp_path: Path, said: Any) -> None:
    row = {"response": RIGHT, "answer": "Tim has 7 of them. Then he gets 5 more."}
    status, text = said(write(tmp_path / "x.jsonl", [row]))
    assert status == 2
    assert "is a text of 2 sentences" in text


def test_a_solution_without_another_completion_is_graded_and_said(
    tmp_path: Path, said: Any
) -> None:
    file = write(tmp_path / "x.jsonl", [{"solution": RIGHT, "answer": "12"}])
    text = said(file)[1]
    assert "completion from 'solution', gold from 'answer'" in text
    assert "in many data sets 'solution' is the reference" in text


def lm_eval(filters: dict[str, list[str]]) -> Rows:
    """Four problems, the first three solved; each filter keeps its own of each reply."""
    return [
        {
            "doc_id": number,
            "target": f"so it is\n#### {number}",
            "resps": [[f"Well:\n#### {number if number < 3 else 7}"]],
            "filtered_resps": [kept[number]],
            "filter": name,
        }
        for name, kept in filters.items()
        for number in range(4)
    ]


def test_the_problems_of_lm_eval_are_counted_once(tmp_path: Path, said: Any) -> None:
    file = write(
        tmp_path / "x.jsonl",
        lm_eval({"strict": ["0", "1", "2", "7"], "flexible": ["0", "1", "2", "7"]}),
    )
    status, text = said(file)
    assert status == 0
    assert text.startswith("3 of 4 correct: 75.0 %")
    assert "4, of 4 problems" in text
    assert "filters: the rows of strict, flexible hold the same completions" in text
    assert said(file, "--expect=4")[0] == 0


def test_filters_that_keep_other_answers_are_told_apart(tmp_path: Path, said: Any) -> None:
    file = write(
        tmp_path / "x.jsonl",
        lm_eval({"strict": ["0", "[invalid]", "2", "7"], "flexible": ["0", "1", "2", "7"]}),
    )
    text = said(file, "--completion=filtered_resps")[1]
    assert "strict: 2 of 4 correct: 50.0 %" in text
    assert "flexible: 3 of 4 correct: 75.0 %" in text
    assert "5 of 8" not in text


def test_equal_rows_of_an_id_are_samples_that_agree_and_mentioned(
    tmp_path: Path, said: Any
) -> None:
    rows: Rows = [
        {"id": name, "response": f"#### {value}", "answer": "4"}
        for name, value in (("a", 4), ("b", 4), ("c", 4), ("d", 5), ("d", 5))
    ]
    file = write(tmp_path / "x.jsonl", rows)
    status, text = said(file)
    assert status == 0
    assert text.startswith("3 of 5 samples correct")
    assert "mean over 4 problems: 75.0 %" in text
    assert "repeated: 1 row with the id and the completion of an earlier row" in text


def test_a_solver_that_agrees_with_itself_loses_no_samples(tmp_path: Path, said: Any) -> None:
    replies = {"a": [4] * 7 + [5], "b": [5] * 7 + [4]}
    rows: Rows = [
        {"id": name, "response": f"#### {value}", "answer": "4"}
        for name, values in replies.items()
        for value in values
    ]
    text = said(write(tmp_path / "x.jsonl", rows))[1]
    assert text.startswith("8 of 16 samples correct")
    assert "mean over 2 problems: 50.0 %" in text


@pytest.mark.parametrize(
    "more",
    [
        {"response": "Again #### 5"},  # another sample of the problem
        {"sample": 1},
    ],
)
def test_another_sample_is_counted(more: dict[str, Any], tmp_path: Path, said: Any) -> None:
    first = {"id": 1, "sample": 0, "response": "#### 5", "answer": "4", "problem": "2 + 2?"}
    text = said(write(tmp_path / "x.jsonl", [first, first | more]))[1]
    assert "of 2 correct" in text
    assert "repeated" not in text


def test_equal_rows_without_an_id_are_samples_of_their_own(tmp_path: Path, said: Any) -> None:
    row = {"response": "#### 4", "answer": "4"}
    assert said(write(tmp_path / "x.jsonl", [row, row]))[1].startswith("2 of 2 correct")
