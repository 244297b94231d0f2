"""A second grader: what it says, what it is not asked, and that it only reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_math.answers import pool
from slm_math.answers.second_opinion import LONGEST, Opinion, second_opinion
from slm_math.metrics.disputes import Dispute, Disputes
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
        second_opinion(answer, task("12"))
    assert not file.exists()


def test_disputes_are_a_range() -> None:
    disputes = Disputes()
    verdicts = [(True, True), (True, False), (False, True), (False, False), (True, None)]
    for number, (ours, theirs) in enumerate(verdicts):
        disputes.add(Dispute(f"row {number}", "a", "g", ours, "", Opinion(theirs)))
    assert disputes.bounds(correct=3, n=5) == (0.4, 0.8)
    assert (disputes.asked, disputes.silent) == (4, 1)
    first, *others = disputes.lines(correct=3, n=5)
    assert "accuracy 40.0 to 80.0 %; of 4 verdicts 2 are disputed" in first
    assert [line.split(":")[0].strip() for line in others] == ["row 1", "row 2"]
