"""Multiple choice as a person would grade it: on choices like those of geometric problems, and on
the published samples, with right and wrong answers of many forms.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_math.answers import grade, grade_reply
from slm_math.data import Geometry3K
from slm_math.data.base import read_tasks

ROOTS = ["5", "5 \\sqrt { 2 }", "5 \\sqrt { 3 }", "10"]
WHOLE = ["30", "40", "60", "80"]
RIGHT = [
    (ROOTS, "C", "8.66"),
    (ROOTS, "C", "8.7"),  # rounded as the books round
    (ROOTS, "C", "(C) 8.66"),
    (ROOTS, "C", "y = 8.660"),
    (ROOTS, "C", "y = 5\\sqrt{3}"),
    (ROOTS, "C", "5√3"),
    (ROOTS, "C", "\\sqrt{75}"),
    (WHOLE, "D", "D (80)"),
    (WHOLE, "D", "D (80 degrees)"),
    (WHOLE, "D", "m\\widehat{AB}=80"),
    (WHOLE, "D", "c = 80"),
    (WHOLE, "D", "80^\\circ"),
    (["\\frac{1}{4}", "\\frac{3}{4}"], "B", "\\sin x = \\frac34"),
    (["x = 2", "y = 2"], "A", "x = 2"),
]
WRONG = [
    (ROOTS, "C", "8.65"),
    (ROOTS, "C", "9"),
    (ROOTS, "C", "7.07"),
    (ROOTS, "C", "(B) 8.66"),
    (ROOTS, "C", "(C) 7.07"),
    (WHOLE, "D", "D (40)"),
    (WHOLE, "D", "79.9"),
    (WHOLE, "D", "A or D"),
    (WHOLE, "D", "not D"),
    (WHOLE, "D", "x = 40 = 80"),
    (["13.45", "14"], "A", "13.5"),  # a decimal is compared as it is
    (["x = 2", "y = 2"], "A", "y = 2"),
]


@pytest.mark.parametrize(("choices", "gold", "answer"), RIGHT)
def test_right_answers(choices: list[str], gold: str, answer: str) -> None:
    assert grade(f"<answer>{answer}</answer>", gold, None, "mc", choices).correct


@pytest.mark.parametrize(("choices", "gold", "answer"), WRONG)
def test_wrong_answers(choices: list[str], gold: str, answer: str) -> None:
    assert not grade(f"<answer>{answer}</answer>", gold, None, "mc", choices).correct


FORMS = [
    "<think>Maybe A, or B.</think>\n<answer>{letter}</answer>",
    "<answer>({letter})</answer>",
    "<answer>{lower}.</answer>",
    "<answer>{letter}:</answer>",
    "<answer>{letter}: {value}</answer>",
    "<answer>({letter}) {value}</answer>",
    "<answer>{value}</answer>",
    "<answer>\n{lower}\n</answer>",
    "\\boxed{{{letter}}}",
    "\\boxed{{\\text{{({letter})}}}}",
    "\\boxed{{{value}}}",
    "The answer is ({letter}).",
    "The correct option is {letter}: {value}",
    "**Answer: {letter}**",
    "#### {letter}",
    "so the answer is ${value}$.",
    "({letter})",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_published_samples(form: str, real_data: Path) -> None:
    """Every choice of the ten samples, written in this form: the right one is right, no other."""
    for task in read_tasks(Geometry3K(str(real_data / "geometry3k")), "train"):
        for letter, value in zip("ABCD", task.problem.choices, strict=True):
            reply = form.format(letter=letter, lower=letter.lower(), value=value)
            assert grade_reply(reply, task).correct == (letter == task.gold), reply
