"""Drafts to judge: labels, balance, and which problems are held out."""

import json
from pathlib import Path
from typing import Any

import pytest

from slm_math.data import Drafts
from slm_math.data.base import read_dialogues, read_tasks
from slm_math.data.published import is_held_out
from slm_math.records.encoding import json_line
from slm_math.records.files import data_hash, write_json
from slm_math.records.record import Record, TurnEvent
from slm_math.types import Task


def row(number: int, right: bool, **more: Any) -> dict[str, Any]:
    answer = str(number + 3 + (not right))
    draft = {"draft": f"It is {answer}.", "answer": answer}
    return {"id": f"p/{number}", "problem": f"What is {number} plus 3?"} | draft | more


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def tasks(path: str, split: Any = "train", **options: Any) -> list[Task]:
    return read_tasks(Drafts(path, **options), split)


def test_a_draft_with_a_reference_answer_is_graded(tmp_path: Path) -> None:
    rows = [row(1, True, gold="4.0"), row(2, False, gold="5", correct=True)]
    path = written(tmp_path / "d.jsonl", rows)
    made = tasks(path, validation=0.0)
    assert [task.gold for task in made] == ["CORRECT", "INCORRECT"]
    assert [task.problem.answer_type for task in made] == ["verdict", "verdict"]


def test_without_a_reference_answer_the_row_says_it(tmp_path: Path) -> None:
    rows = [row(1, True, correct=False), row(2, True, correct=True)]
    path = written(tmp_path / "d.jsonl", rows)
    assert [task.gold for task in tasks(path, validation=0.0)] == ["INCORRECT", "CORRECT"]


def test_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, True, correct=True), row(2, True)])
    with pytest.raises(ValueError, match=r"d\.jsonl, line 2: field 'correct' is missing"):
        tasks(path)


def test_right_and_wrong_drafts_are_balanced(tmp_path: Path) -> None:
    path = written(
        tmp_path / "d.jsonl", [row(n, n % 4 == 0, correct=n % 4 == 0) for n in range(40)]
    )
    golds = [task.gold for task in tasks(path, validation=0.0)]
    assert (golds.count("CORRECT"), golds.count("INCORRECT")) == (10, 10)
    assert len(tasks(path, validation=0.0, balance=False)) == 40


def test_few_drafts_of_a_problem_are_of_both_kinds(tmp_path: Path) -> None:
    rows = [row(1, False, correct=False, draft=f"draft {n}") for n in range(5)]
    path = written(tmp_path / "d.jsonl", [*rows, row(1, True, correct=True)])
    made = tasks(path, validation=0.0, balance=False, per_problem=2)
    assert sorted(task.gold for task in made) == ["CORRECT", "INCORRECT"]


def test_equal_drafts_of_a_problem_are_one(tmp_path: Path) -> None:
    path = written(
        tmp_path / "d.jsonl", [row(1, True, correct=True)] * 3 + [row(2, False, gold="5")]
    )
    assert len(tasks(path, validation=0.0, balance=False)) == 2


def test_the_drafts_of_a_problem_are_held_out_together_and_as_elsewhere(tmp_path: Path) -> None:
    rows = [row(n, right, correct=right) for n in range(60) for right in (True, False)]
    path = written(tmp_path / "d.jsonl", rows)
    held = {task.problem.text for task in tasks(path, "validation", validation=0.3)}
    learned = {task.problem.text for task in tasks(path, "train", validation=0.3)}
    assert len(held | learned) == 60
    assert held == {each["problem"] for each in rows if is_held_out(each["problem"], 0.3)}
    assert not held & learned


def test_two_drafts_of_a_problem_are_two_problems(tmp_path: Path) -> None:
    one, other = (
        tasks(written(tmp_path / f"{n}.jsonl", [row(1, True, correct=True, draft=text)]),
              balance=False, validation=0.0)
        for n, text in enumerate(("so 4", "hence 4"))
    )  # fmt: skip
    assert one[0].problem.id != other[0].problem.id
    assert data_hash(one) != data_hash(other)


def test_dialogues_demonstrate_verdicts(tmp_path: Path) -> None:
    path = written(tmp_path / "d.jsonl", [row(1, False, gold="4"), row(2, True, gold="5")])
    source = Drafts(path, validation=0.0)
    told = [
        [(message.role, message.text) for message in dialogue]
        for dialogue in read_dialogues(source, "train", "verify_plain")
    ]
    assert told == [
        [("user", "Check: What is 1 plus 3? Answer: 5"), ("assistant", "VERDICT: INCORRECT")],
        [("user", "Check: What is 2 plus 3? Answer: 5"), ("assistant", "VERDICT: CORRECT")],
    ]


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    def record(number: int, answer: str | None, **more: Any) -> Record:
        turns = (TurnEvent(role="solver", reply=f"I say {answer}."),) if answer else ()
        text = f"What is {number} plus 3?"
        return Record(
            f"p/{number}", 0, text, gold=str(number + 3), answer=answer, events=turns, **more
        )

    records = [record(1, "4"), record(2, "9"), record(3, None), record(4, None, error="broke")]
    (tmp_path / "records.jsonl").write_bytes(b"".join(map(json_line, records)))
    return tmp_path


def test_an_evaluation_is_a_set_of_drafts(evaluation: Path) -> None:
    made = tasks(str(evaluation), validation=0.0)
    drafts = [(task.problem.draft.text, task.gold) for task in made if task.problem.draft]
    assert drafts == [("I say 4.", "CORRECT"), ("I say 9.", "INCORRECT")]


def test_drafts_of_test_problems_are_never_trained_on(evaluation: Path) -> None:
    write_json(evaluation / "manifest.json", {"identity": {}, "partial": False, "split": "test"})
    assert len(tasks(str(evaluation), "test")) == 2
    with pytest.raises(ValueError, match="holds drafts of test problems, and no train split"):
        tasks(str(evaluation), "train")


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no evaluation \(it has no records\.jsonl\)"):
        tasks(str(tmp_path))
