"""The shapes in which the choices of a multiple-choice problem may be passed."""

from __future__ import annotations

import pytest

from slm_math.answers import equivalent, explain, extract, grade

SHAPES = [
    ["3 kg", "5 kg", "8 kg"],
    ("3 kg", "5 kg", "8 kg"),
    {"A": "3 kg", "B": "5 kg", "C": "8 kg"},
    {"c": "8 kg", "a": "3 kg", "b": "5 kg"},
    {"label": ["A", "B", "C"], "text": ["3 kg", "5 kg", "8 kg"]},
    "(A) 3 kg\n(B) 5 kg\n(C) 8 kg",
    ["A. 3 kg", "B. 5 kg", "C. 8 kg"],
    ["c) 8 kg", "a) 3 kg", "b) 5 kg"],
]


@pytest.mark.parametrize("choices", SHAPES)
@pytest.mark.parametrize("gold", ["B", "(B)", "B.", "b", "5 kg"])
def test_a_choice_is_named_by_its_letter_or_its_value(choices: object, gold: str) -> None:
    verdicts = [
        grade(f"\\boxed{{{answer}}}", gold, None, "mc", choices).correct  # type: ignore[arg-type]
        for answer in ("B", "(b)", "5 kg", "C", "8 kg", "3")
    ]
    assert verdicts == [True, True, True, False, False, False]


@pytest.mark.parametrize("choices", SHAPES)
def test_equivalent_and_explain_take_the_same_shapes(choices: object) -> None:
    assert equivalent("5", "B", "mc", choices)  # type: ignore[arg-type]
    steps = dict(explain("The answer is 5 kg.", "B", None, "mc", choices))  # type: ignore[arg-type]
    assert steps["verdict"].startswith("right")


def test_numbers_are_choices() -> None:
    assert grade(r"\boxed{8}", "C", None, "mc", [3, 5, 8]).correct


@pytest.mark.parametrize(
    "choices", ["3 kg, 5 kg", {"A": "3", "C": "5"}, {1: "3", 2: "5"}, {"3", "5"}, 7, [None, "3"]]
)
def test_unreadable_choices_are_an_error(choices: object) -> None:
    with pytest.raises(ValueError, match=r"choices .* cannot be read"):
        grade(r"\boxed{B}", "B", None, "mc", choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("gold", [1, "1"])
def test_an_index_is_no_reference(gold: object) -> None:
    with pytest.raises(ValueError, match="index has to be made a letter"):
        grade(r"\boxed{B}", gold, None, "mc", ["3 kg", "5 kg"])  # type: ignore[arg-type]


def test_votes_on_numbers_that_are_no_choice_are_no_error() -> None:
    assert not equivalent("7", "9", "mc", ["3", "5"])


def test_a_letter_beside_a_box_counts_in_multiple_choice_only() -> None:
    reply = "\\boxed{12}\n\nAnswer: D"
    assert extract(reply).value == "12"
    assert extract(reply, answer_type="mc").value == "D"
