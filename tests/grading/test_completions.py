"""Saved completions: what rows say in all the shapes people save them in, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from slm_math.data.json_lines import RowError
from slm_math.foreign.paths import field_paths, lookup
from slm_math.grading.completions import Case, cases
from slm_math.grading.fields import AmbiguousRow, Fields, NoField
from slm_math.grading.scoring import grade_case, looks_truncated

USER, REPLY = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "R"}
PARTS = {
    "role": "assistant",
    "content": [{"type": "thinking", "text": "no"}, {"type": "text", "text": "R"}],
}


def read(row: dict[str, Any], **options: Any) -> list[Case]:
    return cases(row, 1, Fields(**options))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b", 1),
        ("list.1.x", 2),
        ("list.0", 3),
        ("6.7b.text", 4),
        ("flat.name", 5),
    ],
)
def test_a_dotted_path_reaches_into_objects_and_lists(path: str, expected: int) -> None:
    row = {"a": {"b": 1}, "list": [3, {"x": 2}], "6.7b": {"text": 4}, "flat.name": 5}
    assert lookup(row, path) == expected


@pytest.mark.parametrize("path", ["a.c", "list.2", "list.x", "list.-1", "a.b.c", "b", ""])
def test_a_path_to_nothing_is_missing(path: str) -> None:
    with pytest.raises(NoField, match="missing"):
        read({"a": {"b": "x"}, "list": ["x", "y"], "answer": "1"}, completion=path)


def test_fields_are_listed_as_paths_for_people_to_choose_from() -> None:
    row = {"q": "x", "m": {"text": "y", "n": {}}, "l": [{"t": 1}, {"t": 2}]}
    assert list(field_paths(row)) == ["q", "m.text", "m.n", "l.0.t"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("R", ["R"]),
        (7, ["7"]),
        (-0.5, ["-0.5"]),
        (1e-07, ["0.0000001"]),
        ([USER, REPLY | {"content": "first"}, USER, REPLY, USER], ["R"]),
        ([REPLY], ["R"]),
        (REPLY, ["R"]),
        ([USER, PARTS], ["R"]),
        (["R", 3, [USER, REPLY]], ["R", "3", "R"]),
        ([[REPLY], [PARTS]], ["R", "R"]),
        (["R"], ["R"]),
    ],
)
def test_a_completion_is_text_a_number_a_chat_or_several(said: Any, expected: list[str]) -> None:
    read_cases = read({"completion": said, "answer": "1"})
    assert [case.completion for case in read_cases] == expected
    assert [case.sample for case in read_cases] == list(range(len(expected)))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"a": 1}, "is an object"),
        (True, "true or false"),
        (float("nan"), "NaN"),
        ([], "empty list"),
        ([USER], "without an assistant message"),
        ([{"role": "assistant", "content": None}], "has no text"),
        (["R", True], r"\(sample 1\) is true or false"),
    ],
)
def test_what_is_no_completion_is_named(said: Any, reason: str) -> None:
    with pytest.raises(RowError, match=f"field 'completion'.*{reason}"):
        read({"completion": said, "answer": "1"})


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("5", "5"),
        (5, "5"),
        (2.5, "2.5"),
        ([5], "5"),
        (["x #### 5"], "5"),
        ("6*2 = 12\n#### 12", "12"),
        (r"so \boxed{\frac12}", r"\frac12"),
        ("16 - 7 = 9\nA: 18", "18"),
    ],
)
def test_a_gold_is_an_answer_or_a_rationale(gold: Any, expected: str) -> None:
    assert read({"completion": "R", "answer": gold})[0].task.gold == expected


@pytest.mark.parametrize("gold", [[1, 2], {}, False, float("inf"), " ", "x ####"])
def test_what_is_no_gold_makes_the_row_unreadable(gold: Any) -> None:
    with pytest.raises(RowError, match="'answer'"):
        read({"completion": "R", "answer": gold})


def test_golds_that_differ_need_a_name() -> None:
    row = {"completion": "R", "answer": "so 5 #### 5", "ground_truth": "6"}
    with pytest.raises(AmbiguousRow, match="--gold answer or --gold ground_truth"):
        read(row)
    assert read(row, gold="ground_truth")[0].task.gold == "6"
    assert read(row | {"ground_truth": 5.0})[0].task.gold == "5"


def test_rules_come_from_the_row_unless_they_hold_for_all() -> None:
    row = {
        "completion": "R",
        "answer": "B",
        "answer_type": "mc",
        "choices": [1, "two"],
        "options": ["x"],
    }
    problem = read(row)[0].task.problem
    assert (problem.answer_type, problem.choices) == ("mc", ("1", "two"))
    assert read(row, choices="options")[0].task.problem.choices == ("x",)
    assert read(row, answer_type="math")[0].task.problem.answer_type == "math"
    near = {"completion": "R", "answer": 5, "answer_type": "num", "tolerance": 0.1}
    assert read(near)[0].task.tolerance == 0.1
    assert read(near, tolerance="1%")[0].task.tolerance == "1%"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"completion": "7.05", "answer": 7, "answer_type": "num", "tolerance": 0.1}, "equal"),
        ({"completion": "7.05", "answer": 7, "answer_type": "num"}, "different"),
        (
            {"completion": "red", "answer": "B", "answer_type": "mc", "choices": ["blue", "red"]},
            "equal",
        ),
        (
            {
                "completion": r"\boxed{(x+1)^2-1}",
                "answer": "x^2+2x",
                "question": "Expand $(x+1)^2-1$.",
            },
            "copied",
        ),
        ({"completion": r"\boxed{(x+1)^2-1}", "answer": "x^2+2x"}, "equal"),
    ],
)
def test_the_rules_of_a_row_reach_the_grader(row: dict[str, Any], reason: str) -> None:
    assert grade_case(read(row)[0]).reason == reason


def test_a_row_is_known_by_its_id() -> None:
    row = {"completion": "R", "answer": "1"}
    assert [read(row | more)[0].id for more in ({"id": 7}, {"unique_id": "t/7"}, {"id": [7]},
    {})] == [
        7, "t/7", None, None,
    ]  # fmt: skip


def test_a_chat_as_prompt_is_no_problem_text() -> None:
    assert read({"prompt": [USER], "completion": "R", "answer": "1"})[0].task.problem.text == ""
    assert read({"prompt": "P", "completion": "R", "answer": "1"})[0].task.problem.text == "P"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"finish_reason": "length"}, [True]),
        ({"stop_reason": "max_tokens"}, [True]),
        ({"finish": "stop"}, [False]),
        ({"truncated": True}, [True]),
        ({"finish": True}, [None]),
        ({}, [None]),
        ({"completion": ["a", "b"], "finish_reason": ["stop", "length"]}, [False, True]),
        ({"completion": ["a", "b"], "finish_reason": "length"}, [None, None]),
    ],
)
def test_a_row_may_say_that_a_completion_was_truncated(
    more: dict[str, Any], expected: list[bool | None]
) -> None:
    assert [case.truncated for case in read({"completion": "R", "answer": "1"} | more)] == expected


def test_a_finish_reason_around_a_nested_completion_is_seen() -> None:
    choice = {"message": {"content": "R"}, "finish_reason": "length"}
    [case] = read({"choices": [choice], "answer": "1"}, completion="choices.0.message.content")
    assert case.truncated is True


@pytest.mark.parametrize(
    ("text", "answered", "expected"),
    [
        (r"so \boxed{\frac{1}{2}", True, True),
        (r"so \boxed{\{1\}}", True, False),
        ("```python\nprint(1)", True, True),
        ("```python\nprint(1)\n```", False, False),
        ("<think>hm.", True, True),
        ("<think>hm.</think> Five.", False, False),
        ("and then we", False, True),
        ("and then we", True, False),
        ("", False, False),
    ],
)
def test_truncation_is_guessed_from_what_is_left_open(
    text: str, answered: bool, expected: bool
) -> None:
    assert looks_truncated(text, answered) is expected
