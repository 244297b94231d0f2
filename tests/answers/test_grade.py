"""Verdicts on whole replies, and on every solution of the real data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slm_math.answers import extract, gold_answer, grade


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_verdict_says_what_was_answered_and_how() -> None:
    verdict = grade(r"So it is \boxed{1{,}050}.".replace("{,}", ","), "1050")
    assert (verdict.correct, verdict.answer, verdict.method, verdict.reason) == (
        True,
        "1,050",
        "box",
        "equal",
    )
    assert verdict.grader_version
    assert verdict.seconds >= 0


@pytest.mark.parametrize(
    ("reply", "gold", "reason"),
    [
        ("I do not know", "5", "no answer"),
        (r"\boxed{6}", "5", "different"),
        (r"\boxed{5 \text{ or } 6}", "5", "hedged"),
        (r"\boxed{2+3}", "5", "unevaluated"),
        (r"\boxed{5\text{ km}}", r"5\text{ cm}", "other unit"),
        (r"\boxed{" + "1+" * 600 + "1}", "601", "too complex"),
    ],
)
def test_a_wrong_answer_has_a_reason(reply: str, gold: str, reason: str) -> None:
    verdict = grade(reply, gold)
    assert (verdict.correct, verdict.reason) == (False, reason)


def test_an_expression_copied_from_the_problem_is_no_answer() -> None:
    reply = r"\boxed{(x+1)^2 - 1}"
    assert grade(reply, "x^2+2x").correct
    assert grade(reply, "x^2+2x", problem="Expand $(x + 1)^2 - 1$.").reason == "copied"


def test_recorded_gsm8k_verdicts_are_reproduced(real_data: Path) -> None:
    disagree = []
    for row in rows(real_data / "recorded" / "gsm8k_model_solutions.jsonl"):
        gold = extract(row["ground_truth"]).value
        assert gold is not None
        for name, record in row.items():
            if (
                isinstance(record, dict)
                and grade(record["solution"], gold).correct != record["is_correct"]
            ):
                disagree.append((name, record["solution"][-80:], gold))
    assert disagree == []


def test_every_gsm8k_rationale_and_boxed_integer_is_right(real_data: Path) -> None:
    for row in rows(real_data / "gsm8k" / "test.jsonl"):
        gold = gold_answer(row["answer"])
        assert grade(row["answer"], gold).correct
        assert grade(f"So \\boxed{{{float(gold.replace(',', ''))}}}.", gold).correct
        assert not grade(f"So \\boxed{{{int(gold.replace(',', '')) + 1}}}.", gold).correct


def test_every_math_500_solution_is_right(real_data: Path) -> None:
    solved = rows(real_data / "math500" / "test.jsonl")
    assert [
        row["answer"] for row in solved if not grade(row["solution"], row["answer"]).correct
    ] == []


def test_every_math_solution_is_right_by_its_own_box(real_data: Path) -> None:
    solutions = [row["solution"] for row in rows(real_data / "math" / "train.jsonl")]
    assert [s[-80:] for s in solutions if not grade(s, gold_answer(s)).correct] == []


def test_math_500_answers_are_not_taken_for_each_other(real_data: Path) -> None:
    golds = sorted({row["answer"] for row in rows(real_data / "math500" / "test.jsonl")})[::6]
    taken = [(a, g) for a in golds for g in golds if a != g and grade(f"\\boxed{{{a}}}", g).correct]
    assert taken == []


def test_an_answer_is_the_next_problems_only_where_the_two_are_the_same(real_data: Path) -> None:
    golds = [row["answer"] for row in rows(real_data / "math500" / "test.jsonl")]
    taken = [
        (a, g) for a, g in zip(golds, golds[1:] + golds[:1]) if grade(f"\\boxed{{{a}}}", g).correct
    ]
    assert sorted(taken) == [("3", "3"), ("5", "x=5"), ("7", "7")]
