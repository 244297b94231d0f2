"""A second grader: what it says, what it is not asked, and that it only reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_math.answers import pool
from slm_math.answers.second_opinion import LONGEST, Opinion, second_opinion
from slm_math.metrics.disputes import Dispute, Disputes, range_of
from slm_math.types import AnswerType, Problem, Task


def task(gold: str, kind: AnswerType = "math", tolerance: str | None = None) -> Task:
    return Task(Problem("p", "?", kind), gold, tolerance=tolerance)


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [("12", "12", True), (r"\frac{6}{4}", "1.5", True), ("13", "12", False), ("x+x", "2x", True)],
)
def test_what_math_verify_says(answer: str, gold: str, correct: bool) -> None:
    opinion = second_opinion(answer, task(gold))
    assert opinion.correct is correct
    assert opinion.answer
    assert opinion.gold


REPLIES = {
    # it finds the box, as we do
    r"So $x = 5$, and the answer is \boxed{12}.": (True, "12"),
    r"So $x = 5$. The answer is $3 \cdot 4$.": (True, "3*4"),
    # amounts of dollars are no statement
    "She has $5, earns $7, and has 12.": (None, ""),
    # it takes two boxes for a set
    r"\boxed{11} no, wait, \boxed{12}": (False, "{11, 12}"),
    # without a formula it finds nothing: its reader of plain numbers is off
    "The answer is 12.": (None, ""),
    "": (None, ""),
}


@pytest.mark.parametrize("reply", REPLIES)
def test_it_looks_for_the_answer_in_the_reply_itself(reply: str) -> None:
    opinion = second_opinion("12", task("12"), reply)
    assert (opinion.reply_correct, opinion.found) == REPLIES[reply]
    assert opinion.correct is True


def test_an_answer_that_only_it_finds_is_disputed() -> None:
    opinion = second_opinion(None, task("12"), "Hence $12$ apples.")
    assert opinion == Opinion(None, "", "12", True, "12")
    disputes = Disputes()
    assert disputes.add(Dispute("row 1", "", "12", False, "no answer", opinion))
    assert [*disputes.lines((0.0, 1.0), 1)][-1] == (
        "  row 1: no answer for 12: incorrect (no answer) here; correct there, which finds in the "
        "reply 12 for 12"
    )


def test_a_reply_that_it_reads_otherwise_is_disputed_although_the_answers_are_equal() -> None:
    opinion = second_opinion("12", task("12"), r"\boxed{11} no, wait, \boxed{12}")
    disputes = Disputes()
    assert disputes.add(Dispute("row 1", "12", "12", True, "equal", opinion))
    assert (
        "correct there, which reads 12 for 12; incorrect there, which finds in the reply {11"
        in ([*disputes.lines((0.0, 1.0), 1)][-1])
    )


def test_it_is_asked_about_formulas_only() -> None:
    before = pool.query_count()
    assert second_opinion(None, task("12")).correct is None
    assert second_opinion("B", task("B", "mc")).correct is None
    assert second_opinion("CORRECT", task("CORRECT", "verdict")).correct is None
    assert second_opinion("1.5", task("1.6", "num", "10%")).correct is None
    assert second_opinion("1" * (LONGEST + 1), task("12")).correct is None
    assert pool.query_count() == before


def test_an_answer_is_no_program(tmp_path: Path) -> None:
    file = tmp_path / "written"
    code = f"__import__('pathlib').Path('{file}').write_text('x')"
    for answer in (code, f"$({code})$", rf"\text{{{code}}}", f"}} {code} \\boxed{{"):
        second_opinion(answer, task("12"), f"The answer is ${answer}$, \\({answer}\\).")
    assert not file.exists()


def test_disputes_are_a_range() -> None:
    disputes = Disputes()
    verdicts = [(True, True), (True, False), (False, True), (False, False), (True, None)]
    for number, (ours, theirs) in enumerate(verdicts):
        disputes.add(Dispute(f"row {number}", "a", "g", ours, "", Opinion(theirs)))
    # samples, correct ones, disputed correct and incorrect ones, problems
    of_problems = [
        (1, 1, 0, 0, 1),
        (1, 1, 1, 0, 1),
        (1, 0, 0, 1, 1),
        (1, 0, 0, 0, 1),
        (1, 1, 0, 0, 1),
    ]
    bounds = range_of(of_problems)
    assert bounds == (0.4, 0.8)
    assert (disputes.asked, disputes.silent) == (4, 1)
    first, *others = disputes.lines(bounds, n=5)
    assert "40.0 % if every disputed verdict is wrong, 80.0 % if every one is right" in first
    assert "of 4 verdicts 2 are disputed (1 correct here, 1 there), no opinion on 1" in first
    left_out, *others = others
    assert "it leaves out the sampling error of n = 5, what both graders get wrong" in left_out
    assert [line.split(":")[0].strip() for line in others] == ["row 1", "row 2"]
