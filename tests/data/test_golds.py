"""Reference answers that a data set hands over: normalized where clear, refused where not."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slm_math.answers import gold_answer, grade
from slm_math.data import GSM8K, MATH, MATH500, Source
from slm_math.data.base import read_tasks
from slm_math.data.golds import read_gold
from slm_math.types import Problem

OPEN = Problem("p", "How many?")
CHOICE = Problem("p", "How long?", "mc", ("4 m", "6 m", "8 m"))
LETTER = Problem("p", "How long? (A) 4 m (B) 6 m", "mc")
NUMBER = Problem("p", "How many?", "num")


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("A box holds 7*5=<<7*5=35>>35 nails.\nTwo hold <<35*2=70>>70.\n#### 70", "70"),
        ("#### 1,400", "1,400"),
        (r"Thus $y = \frac{3}{8}$, so the answer is $\boxed{\frac{3}{8}}$.", r"\frac{3}{8}"),
        (r"$\boxed{\text{odd}}$", r"\text{odd}"),
        (
            r"\boxed{It is never so. It is never otherwise.}",
            "It is never so. It is never otherwise.",
        ),
        ("She saves 3 a week.\nThe answer is 36.", "36"),
        ("The answer is 36.", "36"),
        ("Final answer: 36", "36"),
        ("We add them.\nA: 36", "36"),
        ("<answer>36</answer>", "36"),
        (" 36\n", "36"),
        (36, "36"),
        (36.0, "36"),
        (0.25, "0.25"),
        (3e-8, "0.00000003"),
        (np.int64(36), "36"),
        (np.float64(2.5), "2.5"),
        (np.float32(0.3), "0.3"),
        (Fraction(5, 8), "5/8"),
        (Decimal("2.50"), "2.50"),
    ],
)
def test_a_clear_gold_becomes_its_answer(gold: Any, text: str) -> None:
    assert read_gold(gold, OPEN) == text


@pytest.mark.parametrize(
    "gold",
    [
        "odd",
        "Saturday",
        "two planes and a point",
        "The product is never negative.",
        "Mrs. Lee's shop",
        "9:30 p.m. on 3 May 2019.",
        "5 ft. 7 in.",
        "x=2 or x=7",
        "y=3x-4",
        "a:b",
        "A:B=2:5",
        "[2, 9)",
        r"\{1,4,9\}",
        r"(-\infty, 2) \cup (2, \infty)",
        "\\begin{pmatrix} 1 & 2 \\\\\n 3 & 4 \\end{pmatrix}",
        "\\text{Solutions} =\n\\begin{cases} x > 1 \\\\\n x < a \\end{cases}",
        "40\\text{ cubic\nmeters}",
        "x^4 +\n2x",
        "x=4,\ny=5",
        "1, 2, 3,\n4",
        "2+4=6",
        "$7.50",
    ],
)
def test_answers_stay_as_they_are(gold: str) -> None:
    assert read_gold(gold, OPEN) == gold


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        (None, "NoneType"),
        (10**2000, "more than 1000 digits"),
        ("N/A", "a missing value"),
        (True, "bool"),
        (np.bool_(False), "bool"),
        (["36"], "list"),
        ({"value": 36}, "dict"),
        (b"36", "bytes"),
        (1 + 2j, "complex"),
        (math.nan, "not a number"),
        (math.inf, "not a number"),
        ("", "empty"),
        (" \n", "empty"),
        ("nan", "missing value"),
        ("<NA>", "missing value"),
        ("We count the legs.\n####", "no answer"),
        (r"So it is $\boxed{}$.", "no answer"),
        ("Half of them are 24. In all there are 72.", "2 sentences"),
        ("The result is 24. Adding 48 to it gives 72.", "2 sentences"),
        ("We have $x^2=9$.\nThen $x=3$ is the one.", "2 sentences"),
        ("小红有3本书。她又买了2本。", "2 sentences"),
        ("36/2=18\n36+18=54\n54", "explains"),
        ("ab c" * 400, "1600 characters"),
        ("#### Idea\nadd\n#### Answer\n36", "2 lines"),
        ("He sold 36/2 = 18 in June, so 36+18 = 54 altogether", "explains"),
    ],
)
def test_an_unclear_gold_is_refused(gold: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_gold(gold, OPEN)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("B", "B"),
        ("(c)", "(c)"),
        ("A, C", "A, C"),
        ("6 m", "6 m"),
        (r"\boxed{B}", "B"),
        ("Twice 4 is 8. The longest is it.\n#### C", "C"),
        ("Twice 4 is 8.\nThe answer is (C).", "(C)"),
    ],
)
def test_a_gold_of_multiple_choice_names_its_letters(gold: str, text: str) -> None:
    assert read_gold(gold, CHOICE) == text


@pytest.mark.parametrize(
    ("gold", "problem", "reason"),
    [
        ("D", CHOICE, "names D, but the choices are A to C"),
        ("A and E", CHOICE, "names E, but"),
        ("5 m", CHOICE, "none of the 3 choices"),
        ("A or B", CHOICE, "none of the 3 choices"),
        (1, CHOICE, "the number 1: give the letter"),
        (2.0, CHOICE, "the number 2: give the letter"),
        ("6 m", LETTER, "no letter"),
    ],
)
def test_a_gold_that_names_no_choice_is_refused(gold: Any, problem: Problem, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_gold(gold, problem)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("7.25", "7.25"),
        (7, "7"),
        (r"\frac{7}{2}", r"\frac{7}{2}"),
        ("7 cm", "7 cm"),
        ("30%", "30%"),
        ("So it grows.\n#### 1,300", "1,300"),
        ("The answer is 7.", "7"),
    ],
)
def test_a_gold_of_a_number_is_a_number(gold: Any, text: str) -> None:
    assert read_gold(gold, NUMBER) == text


@pytest.mark.parametrize("gold", ["seven", "x", "7 or 8", "7:30", "We add 3. That is 7.", "Monday"])
def test_a_gold_of_a_number_that_is_none_is_refused(gold: str) -> None:
    with pytest.raises(ValueError, match='is not a number, which the answer type "num" needs'):
        read_gold(gold, NUMBER)


def test_a_worked_solution_as_gold_can_be_answered() -> None:
    solution = "Each has 3*4=<<3*4=12>>12 legs.\n#### 12"
    assert not grade(r"\boxed{12}", solution).correct
    assert grade(r"\boxed{12}", read_gold(solution, OPEN)).correct


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gsm8k", "math", "math500"])
def test_golds_of_published_data_stay_byte_for_byte(real_data: Path, name: str) -> None:
    sources: dict[str, Source] = {
        "gsm8k": GSM8K(str(real_data / "gsm8k")),
        "math": MATH(str(real_data / "math"), math500=str(real_data / "math500")),
        "math500": MATH500(str(real_data / "math500")),
    }
    source = sources[name]
    for split in ("test",) if name == "math500" else ("train", "validation", "test"):
        tasks = source.tasks(split)
        assert read_tasks(source, split) == tasks
        assert [gold_answer(task.gold) for task in tasks] == [task.gold for task in tasks]
