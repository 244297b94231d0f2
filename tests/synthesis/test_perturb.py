"""Mistakes in solutions: what changes, what stays, and that a seed decides."""

import random

import pytest

from slm_math.answers import extract
from slm_math.synthesis.perturb import ARITHMETIC, DROPPED_STEP, TEXT_KINDS, WRONG_UNIT, perturbed

TEXT = "3 * 8 = 24 dollars.\nShe pays 24 + 6 = 30 dollars.\nThe answer is 30 dollars."


def all_of(text: str, kind: str, seed: int = 0, problem: str = "") -> list[str]:
    return list(perturbed(text, kind, random.Random(seed), problem))


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_seed_decides(kind: str) -> None:
    assert all_of(TEXT, kind) == all_of(TEXT, kind)
    assert all_of(TEXT, kind)


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_every_perturbation_is_another_text_with_another_answer(kind: str) -> None:
    made = [text for seed in range(20) for text in all_of(TEXT, kind, seed)]
    assert TEXT not in made
    assert {extract(text).value for text in made}.isdisjoint({"30 dollars", None})


def test_arithmetic_is_consistent_or_not() -> None:
    made = [text for seed in range(20) for text in all_of(TEXT, ARITHMETIC, seed)]
    assert "3 * 8 = 22 dollars.\nShe pays 22 + 6 = 28 dollars.\nThe answer is 28 dollars." in made
    assert f"{TEXT[:-11]}20 dollars." in made  # the steps stay


def test_a_dropped_step_leaves_the_number_before_it() -> None:
    assert all_of(TEXT, DROPPED_STEP) == ["3 * 8 = 24 dollars.\nThe answer is 24 dollars."]


def test_a_numbered_step_is_not_dropped() -> None:
    assert all_of("1. 3 * 8 = 24\n2. 24 + 6 = 30\n#### 30", DROPPED_STEP) == []


def test_the_answer_is_stated_in_another_unit() -> None:
    assert set(all_of(TEXT, WRONG_UNIT)) == {f"{TEXT[:-11]}3000 dollars."}
    assert all_of(TEXT.replace("dollars", "apples"), WRONG_UNIT) == []


@pytest.mark.parametrize(
    ("asked", "made"),
    [("How many hours is that?", 3), ("How long is that? It is 8 hours away.", 0), ("", 0)],
)
def test_an_answer_without_a_unit_may_be_right_in_another(asked: str, made: int) -> None:
    """5 hours are 300 minutes, unless the question asks for hours."""
    text = "He needs 3 + 45 = 48 hours.\n#### 48"
    assert len(all_of(text, WRONG_UNIT, problem=f"He drives 1.5 miles. {asked}")) == made


def test_a_rate_is_in_no_unit_of_its_own() -> None:
    assert all_of("5 * 11 = 55. The answer is 55 meters per second.", WRONG_UNIT) == []


def test_numbers_of_the_problem_keep_their_meaning() -> None:
    text = "Each has 4 * 3 = 12.\n12 - 2 = 10 are left.\n#### 10"
    made = all_of(text, ARITHMETIC, problem="There are 12 eggs in a box.")
    assert made
    assert all("4 * 3 = 12.\n" in each for each in made)


def test_a_program_and_its_output_stay_as_they_are() -> None:
    text = "```python\nprint(3 * 8)\n```\n```output\n24\n```\nSo 24 + 0 = 24.\n#### 24"
    for kind in TEXT_KINDS:
        assert all(each.startswith(text[:-2]) for each in all_of(text, kind))


@pytest.mark.parametrize("text", ["", "I do not know.", "The answer is blue."])
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_text_without_numbers_has_no_place_for_a_mistake(text: str, kind: str) -> None:
    assert all_of(text, kind) == []
