"""Drafts of evaluations: labels, perturbed ones, balance, splits."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from synthesis.attempts import attempt, build, code, draft, evaluation, ran, turn

from slm_math.answers import grade
from slm_math.data import Drafts
from slm_math.data.base import read_tasks
from slm_math.data.published import is_held_out
from slm_math.records.record import Record
from slm_math.types import Problem

MIXED = [attempt(n, str(3 * n + (n % 3 == 0))) for n in range(2, 32)]  # 10 of 30 are wrong


def kinds(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(
        row["receipt"]["perturbation"] or ("right" if row["correct"] else "wrong") for row in rows
    )


def test_half_of_the_drafts_are_right(tmp_path: Path) -> None:
    rows = build("drafts", evaluation(tmp_path / "e", MIXED), tmp_path / "out")["train"]
    assert kinds(rows) == {"right": 10, "wrong": 10}
    assert [row["correct"] for row in rows[:4]] == [True, False, True, False]
    assert all(row["correct"] == (row["answer"] == row["gold"]) for row in rows)


def test_perturbed_drafts_take_their_share(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    rows = build("drafts", path, tmp_path / "out", "--perturb", "0.25")["train"]
    count = kinds(rows)
    assert count["right"] == 20
    assert count["wrong"] == 10
    assert len(rows) == 40


def test_right_attempts_alone_give_drafts_with_perturbations(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "e", [attempt(n, str(3 * n)) for n in range(2, 12)])
    with pytest.raises(SystemExit):
        build("drafts", path, tmp_path / "none")
    rows = build("drafts", path, tmp_path / "out", "--perturb", "0.5")["train"]
    assert sum(row["correct"] for row in rows) == 10
    assert len(rows) == 20


def test_every_label_is_that_of_the_grader(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    for row in build("drafts", path, tmp_path / "out", "--perturb", "0.5")["train"]:
        assert grade(row["draft"], row["gold"], row["problem"]).correct == row["correct"]
        assert grade(row["draft"], row["gold"]).answer == row["answer"]


def test_a_mistake_that_leaves_the_answer_right_is_no_draft(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alternatives of one reply are equal to the reference up to a tolerance of 50 %."""
    records = [
        attempt(n, str(3 * n), answer_type="num", tolerance="900%", correct=True)
        for n in range(20, 26)
    ]
    path = evaluation(tmp_path / "e", [*records, attempt(9, "999")])
    rows = build("drafts", path, tmp_path / "out", "--perturb", "0.4")["train"]
    assert kinds(rows)["arithmetic"] == 0
    assert "perturbed drafts whose answer is still right" in capsys.readouterr().out


def test_the_output_of_a_broken_program_is_its_own(tmp_path: Path) -> None:
    def with_code(n: int) -> Record:
        text, program = f"A bag has {n} apples. How many apples have 3 bags?", f"print({n} * 3)"
        first = turn(code(program), text)
        last = turn(f"#### {3 * n}", text, code(program), f"Output: {3 * n}")
        right = draft(str(3 * n), True)
        return attempt(n, str(3 * n), first, ran(program, str(3 * n)), right, last, right)

    path = evaluation(tmp_path / "e", [with_code(n) for n in range(4, 8)])
    rows = build("drafts", path, tmp_path / "out", "--perturb", "0.5")["train"]
    broken = [row for row in rows if row["receipt"]["perturbation"] == "broken code"]
    assert broken
    for row in broken:
        expression = row["draft"].split("print(")[1].split(")")[0]
        left, sign, right = expression.split()
        value = int(left) * int(right) if sign == "*" else int(left) + int(right)
        assert f"Output: {value}\n\n#### {value}" in row["draft"]
        assert row["answer"] == str(value)


def test_test_and_validation_problems_stay_in_their_files(tmp_path: Path) -> None:
    evaluation(tmp_path / "all" / "train", MIXED)
    evaluation(tmp_path / "all" / "test", MIXED[:6], split="test")
    evaluation(tmp_path / "all" / "validation", MIXED[3:12], split="validation")
    parts = build("drafts", str(tmp_path / "all"), tmp_path / "out")
    ids = {name: {row["id"] for row in rows} for name, rows in parts.items()}
    assert ids["test"] <= {record.id for record in MIXED[:6]}
    assert ids["validation"] <= {record.id for record in MIXED[6:12]}
    assert ids["train"] <= {record.id for record in MIXED[12:]}


def test_held_out_problems_are_those_of_the_hash(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    parts = build("drafts", path, tmp_path / "out", "--validation", "0.5", "--balance", "false")
    assert len(parts["train"]) + len(parts["validation"]) == len(MIXED)
    for name, rows in parts.items():
        assert {is_held_out(Problem("", row["problem"]), 0.5) for row in rows} == {
            name == "validation"
        }


def test_drafts_reads_the_folder(tmp_path: Path) -> None:
    path, out = evaluation(tmp_path / "e", MIXED), tmp_path / "out"
    rows = build("drafts", path, out)["train"]
    tasks = read_tasks(Drafts(str(out), validation=0.0), "train")
    made = {(task.problem.draft.text, task.gold) for task in tasks if task.problem.draft}
    assert made == {(r["draft"], "CORRECT" if r["correct"] else "INCORRECT") for r in rows}


def test_two_drafts_that_differ_in_printing_are_one(tmp_path: Path) -> None:
    text = "A bag has 4 apples. How many apples have 3 bags?"
    twins = [
        attempt(4, "12", turn("It is  **12**.", text), sample=0),
        attempt(4, "12", turn("It is 12", text), sample=1),
        attempt(4, "13", turn("It is 13", text), sample=2),
    ]
    rows = build("drafts", evaluation(tmp_path / "e", twins), tmp_path / "out")["train"]
    assert kinds(rows) == {"right": 1, "wrong": 1}


def test_at_most_so_many_drafts_of_a_problem(tmp_path: Path) -> None:
    records = [attempt(4, str(12 + n % 2), turn(f"{n}: {12 + n % 2}"), sample=n) for n in range(8)]
    path = evaluation(tmp_path / "e", records)
    rows = build("drafts", path, tmp_path / "out", "--per_problem", "4")["train"]
    assert kinds(rows) == {"right": 2, "wrong": 2}
