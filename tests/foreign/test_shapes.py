"""The rows of other tools: what each field means, told by hand for each shape."""

from __future__ import annotations

from typing import Any

import pytest
from foreign.files import ONE, RIGHT, ROWS, TWO, WRONG

from slm_math.data.json_lines import RowError
from slm_math.foreign.joining import JOINED
from slm_math.foreign.shapes import BY_NAME, SHAPES, shape_of
from slm_math.foreign.texts import problem_text
from slm_math.foreign.tools import batch_completions, verdict
from slm_math.grading.completions import Case, cases
from slm_math.grading.fields import AmbiguousRow, Fields


def read(row: dict[str, Any]) -> list[Case]:
    shape = shape_of(row)
    return cases(row, 1, Fields(shape=None if shape is None else shape.name))


@pytest.mark.parametrize("tool", ROWS)
def test_rows_of_a_tool_have_its_shape_and_no_other(tool: str) -> None:
    for row in ROWS[tool]:
        assert [shape.name for shape in SHAPES if shape.fits(row)] == [tool]


@pytest.mark.parametrize("tool", ROWS)
def test_problem_reference_completion_and_verdict_are_told_apart(tool: str) -> None:
    first, second = ROWS[tool][:2]
    for row, problem, gold, reply, right in (
        (first, ONE, "12", RIGHT, True),
        (second, TWO, "16", WRONG, False),
    ):
        for case in read(row):
            assert case.task.problem.text == problem
            assert case.task.gold == gold
            assert case.completion == reply
            assert {said for _, said in case.verdicts} == {right}


def test_samples_have_verdicts_of_their_own() -> None:
    row = ROWS["qwen2.5-math"][0] | {"code": [RIGHT, WRONG], "score": [True, False]}
    assert [case.verdicts for case in read(row)] == [(("score", True),), (("score", False),)]


def test_one_verdict_on_several_samples_is_on_none_of_them() -> None:
    row = ROWS["lm-eval"][0] | {"resps": [[RIGHT, WRONG]]}
    assert [case.verdicts for case in read(row)] == [(), ()]


def test_the_metrics_that_a_row_of_lm_eval_names_are_its_verdicts() -> None:
    row = ROWS["lm-eval"][0] | {"metrics": ["exact_match", "math_verify"], "math_verify": 0}
    [case] = read(row)
    assert case.verdicts == (("exact_match", True), ("math_verify", False))
    del row["metrics"]  # before version 0.4.9
    assert read(row)[0].verdicts == case.verdicts


def test_accuracy_says_more_than_a_shaped_score_of_verl() -> None:
    row = ROWS["verl"][0] | {"score": 0.1, "acc": True}
    assert read(row)[0].verdicts == (("acc", True),)
    assert read(ROWS["verl"][0] | {"score": 0.1})[0].verdicts == ()


def test_a_judge_of_nemo_skills_is_heard_beside_the_symbolic_verdict() -> None:
    row = ROWS["nemo-skills"][0] | {"judgement": "Judgement: **No**"}
    assert read(row)[0].verdicts == (("symbolic_correct", True), ("judgement", False))


def test_why_a_completion_ended_is_known_where_the_tool_says_it() -> None:
    assert [read(row)[0].truncated for row in ROWS["open-r1"]] == [False, True]
    assert read(ROWS["inspect"][0])[0].truncated is True
    assert read(ROWS["verl"][0])[0].truncated is None


def test_choices_of_inspect_make_multiple_choice() -> None:
    row = ROWS["inspect"][0] | {"choices": ["11", "12"], "target": "B"}
    [case] = read(row)
    assert case.task.problem.answer_type == "mc"
    assert case.task.problem.choices == ("11", "12")


def test_a_sample_without_output_is_an_empty_completion() -> None:
    [case] = read(ROWS["inspect"][0] | {"output": {"model": "m", "choices": []}})
    assert case.completion == ""


def test_two_possible_shapes_are_asked_for() -> None:
    row = ROWS["verl"][0] | ROWS["nemo-skills"][0]
    with pytest.raises(ValueError, match=r"one of nemo-skills or verl.*--format nemo-skills"):
        shape_of(row)
    chosen = shape_of(row, "verl")
    assert chosen is not None
    assert chosen.name == "verl"
    assert shape_of(row, "plain") is None


def test_a_shape_that_does_not_fit_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="not a row of trl: it has no field step, advantage"):
        shape_of({"prompt": "p", "completion": "c"}, "trl")
    with pytest.raises(ValueError, match="--format word is unknown; known are lm-eval, inspect"):
        shape_of({}, "word")


def test_a_later_row_of_another_shape_cannot_be_read() -> None:
    with pytest.raises(RowError, match="not a row of verl: it has no field 'score'"):
        cases({"input": "p", "output": "5", "answer": "5"}, 2, Fields(shape="verl"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), (0, False), (1.0, True), ("C", True), ("I", False), ("true", True),
        (0.5, None), ("B", None), (None, None), (2, None), ([1], None), (-1, None),
    ],
)  # fmt: skip
def test_a_verdict_is_true_or_false_or_none(value: Any, expected: bool | None) -> None:
    assert verdict(value) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"choices": [{"message": {"content": "a"}}, {"message": {"content": None}}]}, ["a", ""]),
        ({"choices": [{"text": "a"}]}, ["a"]),
        ({"output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": "a"}]},
        ]}, "a"),
        ({"error": {"message": "no"}}, ""),
    ],
)  # fmt: skip
def test_a_batch_answers_in_three_ways(body: dict[str, Any], expected: Any) -> None:
    assert batch_completions({"response": {"body": body}}) == expected


def test_the_problem_in_a_chat_is_the_last_message_of_the_user() -> None:
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "first"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "la"}, {"type": "text", "text": "st"}],
        },
        {"role": "assistant", "content": "a"},
    ]
    assert problem_text(chat) == "last"
    assert problem_text({"role": "user"}) == ""


JUNK: list[Any] = [None, 7, -1, "x", [], [[]], {}, [{}], {"a": [1]}, True, [None, None], "C" * 50]


@pytest.mark.parametrize("tool", ROWS)
def test_a_row_with_anything_in_its_fields_is_read_or_refused(tool: str) -> None:
    """Nothing but the errors that are reported with the place of the row."""
    shape = BY_NAME[tool]
    for row in ROWS[tool][:1]:
        for name in row:
            for junk in JUNK:
                try:
                    found = cases(row | {name: junk}, 1, Fields(shape=shape.name, recorded=True))
                except (RowError, AmbiguousRow):
                    continue
                assert all(isinstance(case.completion, str) for case in found)


@pytest.mark.parametrize("junk", JUNK)
def test_a_batch_with_anything_in_it_is_read_or_refused(junk: Any) -> None:
    golds = {JOINED: {"gold": "5", "problem": ""}}
    for response in (junk, {"body": junk}, {"body": {"choices": junk}}, {"body": {"output": junk}}):
        row = {"custom_id": "a", "error": None, "response": response, **golds}
        try:
            cases(row, 1, Fields(shape="batch"))
        except RowError:
            continue


def test_names_are_different() -> None:
    assert len(BY_NAME) == len(SHAPES)
