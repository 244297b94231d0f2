"""Unseen twins: of the same template, with other numbers and another answer, never trained on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from data.test_arithmetic import EXPRESSION, numbers, value

from slm_math.data import Arithmetic, Shapes, Table
from slm_math.data.base import Split
from slm_math.data.twins import twins_of
from slm_math.types import Task

ARITHMETIC = Arithmetic(train=1300, validation=100, test=100)


def worded(text: str) -> str:
    return re.sub(r"\d+", "#", text)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_twins_tell_the_same_story_with_other_numbers(split: Split) -> None:
    tasks = ARITHMETIC.tasks(split)
    twins = twins_of(tasks, ARITHMETIC, split, True)
    assert len(twins) == len(tasks)
    for task, twin in zip(tasks, twins):
        assert worded(task.problem.text) == worded(twin.problem.text)
        assert numbers(task.problem.text) != numbers(twin.problem.text)
        assert twin.problem.tags == {**task.problem.tags, "twin_of": task.problem.id}
        assert twin.problem.id != task.problem.id
        assert float(twin.gold) == value(twin) != value(task)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_training_problem_has_the_numbers_of_a_twin(seed: int) -> None:
    source = Arithmetic(seed=seed)
    trained = {named(task) for task in source.tasks("train")}
    for split in ("test", "validation"):
        twins = {named(task) for task in source.twins(split)}
        assert len(twins) == 300  # no two twins are alike
        assert not twins & trained


def named(task: Task) -> tuple[str, ...]:
    """The operations and their numbers, whose order says nothing about what was learned."""
    expression = EXPRESSION[task.problem.tags["family"]]
    return (task.problem.tags["family"], expression, *map(str, numbers(task.problem.text)))


def test_training_problems_have_no_twins() -> None:
    assert ARITHMETIC.twins("train") == []
    with pytest.raises(ValueError, match="none of the 1300 problems"):
        twins_of(ARITHMETIC.tasks("train"), ARITHMETIC, "train", True)


def test_twins_of_images_are_about_other_scenes() -> None:
    source = Shapes(train=28, validation=28, test=28, scenes=4, solve=4, drills=4)
    tasks = source.tasks("test")
    twins = twins_of(tasks, source, "test", True)
    assert len(twins) == 28
    seen = {image.source for split in ("train", "test") for t in source.tasks(split)
            for image in t.problem.images}  # fmt: skip
    for task, twin in zip(tasks, twins):
        assert task.problem.tags["family"] == twin.problem.tags["family"]
        assert task.gold != twin.gold
        assert not {image.source for image in twin.problem.images} & seen


def test_only_twins_of_the_chosen_problems_are_asked() -> None:
    tasks = ARITHMETIC.tasks("test")[10:20]
    twins = twins_of(tasks, ARITHMETIC, "test", True)
    assert [t.problem.tags["twin_of"] for t in twins] == [t.problem.id for t in tasks]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda task: task, "is the problem itself"),
        (lambda task: with_text(task, f"{task.problem.text} Hm."), "has the answer of the problem"),
    ],
)
def test_a_twin_that_says_nothing_is_refused(change, message: str) -> None:
    class Same(Arithmetic):
        def twins(self, split: Split) -> list[Task]:
            tags = [{"twin_of": task.problem.id} for task in self.tasks(split)]
            made = map(change, self.tasks(split))
            return [replace(t, problem=replace(t.problem, tags=g)) for t, g in zip(made, tags)]

    source = Same(train=13, test=13)
    with pytest.raises(ValueError, match=message):
        twins_of(source.tasks("test"), source, "test", True)


def with_text(task: Task, text: str) -> Task:
    return replace(task, problem=replace(task.problem, text=text))


def test_twins_of_a_file_belong_to_problems_of_equal_text(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {n} + 1?", "answer": n + 1} for n in (2, 3, 4)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    twin = {"problem": "What is 9 + 1?", "answer": "10", "parent": "What is 3 + 1?"}
    (tmp_path / "twins.jsonl").write_text(json.dumps(twin) + "\n")
    source = Table(str(tmp_path / "test.jsonl"), answer_type="num", tolerance=0.5)
    [made] = twins_of(source.tasks("test"), source, "test", str(tmp_path / "twins.jsonl"))
    assert made.problem.tags["twin_of"] == source.tasks("test")[1].problem.id
    assert (made.problem.text, made.gold) == ("What is 9 + 1?", "10")
    assert (made.problem.answer_type, made.tolerance) == ("num", 0.5)  # as its problem
    with pytest.raises(FileNotFoundError, match="does not exist"):
        twins_of(source.tasks("test"), source, "test", str(tmp_path / "none.jsonl"))
