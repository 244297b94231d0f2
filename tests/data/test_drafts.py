"""Drafts to judge: labels, balance, and which problems are held out."""

from pathlib import Path
from typing import Any

import pytest
from data.drafts import Evaluations, labels, record, row, tasks, written

from slm_math.answers import grader_version
from slm_math.data import Drafts
from slm_math.data.published import is_held_out
from slm_math.records.files import data_hash
from slm_math.types import Problem


def test_a_draft_with_a_reference_answer_is_graded(tmp_path: Path) -> None:
    rows = [row(1, True, gold="4.0"), row(2, False, gold="5", correct=True)]
    made = tasks(written(tmp_path / "d.jsonl", rows))
    assert labels(made) == {"What is 1 plus 3?": "CORRECT", "What is 2 plus 3?": "INCORRECT"}
    assert {task.problem.answer_type for task in made} == {"verdict"}


def test_without_a_reference_answer_the_row_says_it(tmp_path: Path) -> None:
    rows = [row(1, True, correct=False), row(2, True, correct=True)]
    made = tasks(written(tmp_path / "d.jsonl", rows))
    assert labels(made) == {"What is 1 plus 3?": "INCORRECT", "What is 2 plus 3?": "CORRECT"}


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, correct=True), row(2, True)])
    with pytest.raises(ValueError, match=r"d\.jsonl, line 2: field 'correct' is missing"):
        tasks(path)


@pytest.mark.parametrize(
    ("first", "second"),
    [({"gold": "4"}, {"correct": False}), ({"correct": True, "grader": "1"}, {"correct": False})],
)
def test_labels_of_several_graders_are_refused(
    first: dict[str, Any], second: dict[str, Any], tmp_path: Path
) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, **first), row(2, False, **second)])
    with pytest.raises(ValueError, match=r"the labels are of 2 graders \(.*, given\)"):
        tasks(path)


def test_right_and_wrong_drafts_are_balanced(tmp_path: Path) -> None:
    rows = [row(n, n % 4 == 0, correct=n % 4 == 0) for n in range(40)]
    path = written(tmp_path / "d.jsonl", rows)
    golds = [task.gold for task in tasks(path)]
    assert golds == ["CORRECT", "INCORRECT"] * 10  # in turn: what a limit keeps is balanced
    assert [task.gold for task in tasks(path, limit=4)] == ["CORRECT", "INCORRECT"] * 2
    assert len(tasks(path, balance=False)) == 40


def test_which_drafts_are_kept_depends_on_the_seed_alone(tmp_path: Path) -> None:
    rows = [row(n, n % 4 == 0, correct=n % 4 == 0) for n in range(40)]
    path, turned = written(tmp_path / "d.jsonl", rows), written(tmp_path / "e.jsonl", rows[::-1])
    assert tasks(path) == tasks(turned)
    kept, others = ({t.problem.id for t in tasks(path, seed=seed)} for seed in (0, 1))
    assert kept != others


def test_a_split_says_in_a_line_what_it_holds(tmp_path: Path) -> None:
    rows = [row(n, n % 4 == 0, gold=str(n + 3)) for n in range(40)]
    source = Drafts(written(tmp_path / "d.jsonl", rows), validation=0.0)
    assert source.about("train") == (
        "drafts/train: 10 right and 10 wrong drafts, of 10 right and 30 wrong different ones of 40 "
        f"problems (labels: {grader_version()})"
    )


def test_few_drafts_of_a_problem_are_of_both_kinds(tmp_path: Path) -> None:
    rows = [row(1, False, correct=False, draft=f"draft {n}") for n in range(5)]
    path = written(tmp_path / "d.jsonl", [*rows, row(1, True, correct=True)])
    made = tasks(path, balance=False, per_problem=2)
    assert sorted(task.gold for task in made) == ["CORRECT", "INCORRECT"]


def test_equal_drafts_of_a_problem_are_one(tmp_path: Path) -> None:
    rows = [row(1, True, correct=True, id=f"copy {n}") for n in range(3)]
    path = written(tmp_path / "d.jsonl", [*rows, row(2, False, correct=False)])
    assert len(tasks(path, balance=False)) == 2


def test_equal_drafts_of_two_problems_are_two(tmp_path: Path) -> None:
    rows = [row(n, True, correct=True, draft="so 4", answer="4", id="p") for n in (1, 2)]
    path = written(tmp_path / "d.jsonl", [*rows, row(2, False, correct=False)])
    assert len(tasks(path, balance=False)) == 3


def test_the_drafts_of_a_problem_are_held_out_together_and_as_elsewhere(tmp_path: Path) -> None:
    rows = [row(n, right, correct=right) for n in range(60) for right in (True, False)]
    path = written(tmp_path / "d.jsonl", rows)
    held = {task.problem.text for task in tasks(path, "validation", validation=0.3)}
    learned = {task.problem.text for task in tasks(path, "train", validation=0.3)}
    assert len(held | learned) == 60
    assert held == {
        each["problem"] for each in rows if is_held_out(Problem("", each["problem"]), 0.3)
    }
    assert not held & learned


def test_choices_do_not_change_which_problems_are_held_out(evaluations: "Evaluations") -> None:
    more = {"answer_type": "mc", "choices": ("3", "5")}
    records = [record(n, "A" if n % 2 else "B", gold="A", **more) for n in range(40)]
    path = evaluations("mc", "train", records)
    held = tasks(path, "validation", validation=0.3, balance=False)
    expected = {r.problem for r in records if is_held_out(Problem("", r.problem), 0.3)}
    assert {task.problem.text.splitlines()[0] for task in held} == expected


def test_two_drafts_of_a_problem_are_two_problems(tmp_path: Path) -> None:
    one, other = (
        tasks(written(tmp_path / f"{n}.jsonl", [row(1, True, correct=True, draft=text),
                                                row(1, False, correct=False)]))
        for n, text in enumerate(("so 4", "hence 4"))
    )  # fmt: skip
    assert one[0].problem.id != other[0].problem.id
    assert data_hash(one) != data_hash(other)
