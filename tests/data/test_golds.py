"""Reference answers are read when data loads: normalized where clear, refused with the problem."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest

from slm_math.data import Source
from slm_math.data.base import read_tasks
from slm_math.data.golds import read_gold
from slm_math.types import Problem, Task


class Mine(Source):
    name = "mine"

    def __init__(self, *tasks: Any) -> None:
        self.returned: Any = list(tasks)

    def tasks(self, split: Any) -> Any:
        return self.returned


def task(gold: Any, answer_type: Any = "math", choices: Any = (), **more: Any) -> Task:
    return Task(Problem("mine/7", "How many?", answer_type, choices), gold, **more)


def gold_of(value: Any, *kind: Any) -> str:
    [read] = read_tasks(Mine(task(value, *kind)), "train")
    return read.gold


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tom packs 5 boxes of 4, so 20.\n20-3=17\n#### 17", "17"),
        (r"The sum is $\boxed{\frac{5}{6}}$, as asked.", r"\frac{5}{6}"),
        ("He has 5 left. The answer is 5.", "5"),
        ("5 + 4 = 9\nA: 9", "9"),
        (31, "31"),
        (0.25, "0.25"),
        (17.0, "17"),
        (numpy.float32(0.7), "0.7"),
        (numpy.int64(9), "9"),
        ("<answer>9</answer>", "9"),
        (Fraction(3, 8), "3/8"),
        (Decimal("1.50"), "1.50"),
        ("  8 ", "8"),
    ],
)
def test_a_clear_gold_is_normalized(value: Any, expected: str) -> None:
    assert gold_of(value) == expected


@pytest.mark.parametrize(
    "gold",
    [
        "odd",
        "Tuesday",
        "two circles and a point",
        "Mrs. Lee and her son",
        "5 p.m. on Friday",
        "x=3, y=-1",
        "2+3=5",
        "a:b",
        "A:C=3:7",
        "all primes p with p = 3 mod 4",
        "\\begin{pmatrix}1 & 2\\\\\n3 & 4\\end{pmatrix}",
        "$$\n7\n$$",
        "x^3 +\n5x",
        "1,200",
    ],
)
def test_an_answer_stays_as_it_is(gold: str) -> None:
    assert gold_of(gold) == gold.strip()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        (True, "bool"),
        (["5"], "list"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ("nan", "missing in the data"),
        ("<NA>", "missing in the data"),
        ("他有4个苹果。又买了5个。", "several sentences"),
        ("  ", "empty"),
        ("so it is\n####  ", "empty"),
        (r"so it is \boxed{}", "empty"),
        ("Ann has 7 pens. Ben takes two of them.", "several sentences"),
        ("7-2=5 pens are left for Ann", "several sentences or steps"),
        ("7-2=5\n5*3=15", "several sentences or steps"),
        ("one line\nand another", "several sentences"),
        ("5 " * 900, "1799 characters"),
    ],
)
def test_an_unclear_gold_is_refused_with_class_and_problem(value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"Mine.*mine/7.*gold.*{reason}"):
        gold_of(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("D", "A to C"), ("pink", "A to C"), (2, "not a letter"), ("A, E", "A to C")],
)
def test_a_gold_of_mc_names_a_choice(value: Any, reason: str) -> None:
    choices = ("red", "green", "blue")
    assert [gold_of(gold, "mc", choices) for gold in ("B", "(C)", "red", "A, C", "#### A")] == [
        "B", "(C)", "red", "A, C", "A",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=f"mine/7.*gold.*{reason}"):
        gold_of(value, "mc", choices)


@pytest.mark.parametrize("value", ["many", "x", "1, 2", "12 or 13", "1/0"])
def test_a_gold_of_num_is_a_number(value: str) -> None:
    assert gold_of("3 kg", "num") == "3 kg"
    assert gold_of(r"\frac{\pi}{2}", "num") == r"\frac{\pi}{2}"
    with pytest.raises(ValueError, match=r"mine/7.*not a number"):
        gold_of(value, "num")


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "list of Task, got NoneType"),
        ("text", "list of Task, got str"),
        ([{"problem": "a"}], "item 0 must be a Task, got dict"),
        ([task("1"), Task("How many?", "5")], "item 1 must be a Problem.*got str"),
        ([Task(Problem(3, "a"), "1")], "problem 3: its id must be of type str, got int"),
        ([Task(Problem("a", None), "1")], "'a': its text must be of type str, got NoneType"),
        ([task("1", "word")], "answer_type must be one of math, mc, num"),
        ([task("A", "mc", "AB")], "choices must be of type tuple, got str"),
        ([task("A", "mc", (1, 2))], "choices must be of type str, got int"),
        ([task("1", solution=5)], "solution must be a text or None, got int"),
        ([task("1", "num", tolerance="much")], "'mine/7': tolerance 'much'"),
        ([task("1"), task("2")], "1 problem ids occur twice.*mine/7"),
    ],
)
def test_a_source_of_wrong_types_is_named(returned: Any, reason: str) -> None:
    source = Mine()
    source.returned = returned
    with pytest.raises(ValueError, match=rf"Mine\.tasks\('train'\).*{reason}"):
        read_tasks(source, "train")


def test_demonstrations_come_from_checked_problems_too() -> None:
    with pytest.raises(ValueError, match="must be a Problem"):
        Mine(Task("How many?", "5", "2+3=5")).dialogues("train")


def test_lists_and_numbers_of_a_problem_become_what_reports_compare() -> None:
    problem = Problem("a", "Which?", "mc", ["x", "y"], tags={"level": 3})  # type: ignore[arg-type]
    [read] = read_tasks(Mine(Task(problem, "B")), "train")
    assert (read.problem.choices, read.problem.tags) == (("x", "y"), {"level": "3"})


def test_a_source_without_problems_or_a_name_says_so() -> None:
    class Nameless(Source): ...

    class Talks(Source):
        name = "talks"

    with pytest.raises(ValueError, match="Nameless has no name"):
        read_tasks(Nameless(), "train")
    with pytest.raises(ValueError, match="Talks defines no tasks"):
        read_tasks(Talks(), "train")


def test_golds_of_published_data_are_answers_already(real_data: Any) -> None:
    from slm_math.data import MATH500

    tasks = MATH500(str(real_data / "math500")).tasks("test")
    assert [read_gold(task.gold) for task in tasks] == [task.gold for task in tasks]
