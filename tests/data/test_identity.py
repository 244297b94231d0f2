"""What a problem is: which changes make it another problem."""

from pathlib import Path

import pytest

from slm_math.data.identity import problem_key, question_key
from slm_math.types import Draft, Image, Problem

TEXT = "What is $\\frac{1}{2}$ of 1,000?"


def test_spelling_id_and_tags_are_no_part_of_a_problem() -> None:
    one = Problem("a", TEXT, tags={"level": "1"})
    other = Problem("b", "what is  \\dfrac12 of 1000 ?", answer_type="num")
    assert problem_key(one) == problem_key(other)


@pytest.mark.parametrize(
    "other",
    [
        Problem("a", "What is $\\frac{1}{2}$ of 1,001?"),
        Problem("a", TEXT, choices=("500", "50")),
        Problem("a", TEXT, choices=("500 50",)),
        Problem("a", TEXT, images=(Image("data:image/png;base64,AA=="),)),
        Problem("a", TEXT, answer_type="verdict", draft=Draft("It is 500.", "500")),
    ],
    ids=["number", "choices", "one choice", "image", "draft"],
)
def test_what_is_asked_is_what_a_problem_is(other: Problem) -> None:
    assert problem_key(Problem("a", TEXT)) != problem_key(other)


def test_images_are_compared_by_content(tmp_path: Path) -> None:
    keys = []
    for name, content in (("one", b"x"), ("copy", b"x"), ("other", b"y")):
        (tmp_path / name).write_bytes(content)
        keys.append(problem_key(Problem(name, "Area?", images=(Image(str(tmp_path / name)),))))
    assert keys[0] == keys[1] != keys[2]


def test_two_drafts_are_two_problems_with_one_question() -> None:
    drafts = [Problem("a", TEXT, draft=Draft(text, "500")) for text in ("Half.", "half.")]
    assert problem_key(drafts[0]) != problem_key(drafts[1])
    assert question_key(drafts[0]) == question_key(drafts[1]) == question_key(Problem("", TEXT))


def test_texts_without_words_are_told_apart() -> None:
    assert problem_key(Problem("a", "?!")) != problem_key(Problem("a", "!?"))
