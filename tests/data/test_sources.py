"""The same problems from every file format, and no leak between splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data.published import (
    COT,
    HELD_OUT,
    PROBLEMS,
    QUESTIONS,
    everything,
    write_json,
    write_jsonl,
    write_parquet,
    write_tree,
)

from slm_math.answers import grade
from slm_math.data import GSM8K, MATH, MATH500, CoT

FORMATS = [
    ("{}.jsonl", write_jsonl),
    ("{}.json", write_json),
    ("{}.json", write_jsonl),
    ("{}.parquet", write_parquet),
    ("main/{}-00000-of-00001.parquet", write_parquet),
]


@pytest.mark.parametrize(("name", "write"), FORMATS)
def test_gsm8k_is_the_same_from_every_format(
    tmp_path: Path, name: str, write: Callable[..., Path]
) -> None:
    for split in ("train", "test"):
        write(tmp_path / name.format(split), QUESTIONS)
    write_jsonl(tmp_path / "reference" / "train.jsonl", QUESTIONS)
    write_jsonl(tmp_path / "reference" / "test.jsonl", QUESTIONS)
    assert everything(GSM8K(str(tmp_path))) == everything(GSM8K(str(tmp_path / "reference")))


@pytest.mark.parametrize(("name", "write"), [*FORMATS, ("{}", write_tree)])
def test_math_is_the_same_from_every_format(
    tmp_path: Path, name: str, write: Callable[..., Path]
) -> None:
    write(tmp_path / name.format("train"), PROBLEMS[:30])
    write(tmp_path / name.format("test"), PROBLEMS[30:])
    held_out = str(write_jsonl(tmp_path / "500" / "test.jsonl", HELD_OUT))
    tasks = everything(MATH(str(tmp_path), math500=held_out))
    texts = {task.problem.id: task.problem.text for task in tasks}
    assert len(tasks) == 39 + 2  # one of the forty is in MATH-500
    assert texts["math/train/39"] == "What is $39^2$?"
    assert "math/train/5" not in texts
    assert tasks[0].problem.tags == {"level": "2", "subject": "Algebra"}


def test_a_gsm8k_task(tmp_path: Path) -> None:
    [task] = GSM8K(str(write_jsonl(tmp_path / "train.jsonl", QUESTIONS[:1])), validation=0).tasks(
        "train"
    )
    assert task.problem.id == "gsm8k/train/0"
    assert task.gold == "4"
    assert task.solution == "She has 2+2=4 pens.\nThe answer is \\boxed{4}."


def test_a_math_500_task(tmp_path: Path) -> None:
    task = MATH500(str(write_jsonl(tmp_path / "any name.jsonl", HELD_OUT))).tasks("test")[1]
    assert (task.problem.id, task.gold) == ("math500/test/1", "0.25")
    assert task.problem.tags == {"level": "3", "subject": "Algebra"}
    with pytest.raises(ValueError, match="MATH-500 is a test set"):
        MATH500(str(tmp_path / "any name.jsonl")).tasks("train")


def test_the_hold_out_depends_on_the_problem_alone(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a" / "train.jsonl", QUESTIONS)
    write_jsonl(tmp_path / "b" / "train.jsonl", QUESTIONS[::-1])
    rows = [
        {"question": r["question"], "ground_truth": "1", "solution": "\\boxed{1}"}
        for r in QUESTIONS
    ]
    held_out = [
        {task.problem.text for task in source.tasks("validation")}
        for source in (
            GSM8K(str(tmp_path / "a"), validation=0.3),
            GSM8K(str(tmp_path / "b"), validation=0.3),
            CoT(str(write_jsonl(tmp_path / "cot.jsonl", rows)), validation=0.3),
        )
    ]
    assert held_out[0] == held_out[1] == held_out[2]
    assert 4 <= len(held_out[0]) <= 20
    trained = GSM8K(str(tmp_path / "a"), validation=0.3).tasks("train")
    assert {task.problem.text for task in trained} == {
        row["question"] for row in QUESTIONS
    } - held_out[0]


def test_a_limit_keeps_the_first_problems(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", QUESTIONS)
    assert GSM8K(str(tmp_path), limit=3).tasks("train") == GSM8K(str(tmp_path)).tasks("train")[:3]


def test_worked_solutions_are_filtered_by_their_verdict(tmp_path: Path) -> None:
    rows = [COT, COT | {"question": "2 + 2?", "ground_truth": "4", "correct": False}]
    path = str(write_jsonl(tmp_path / "cot.jsonl", rows))
    [task] = CoT(path, validation=0).tasks("train")
    assert (task.problem.id, task.gold, task.solution) == ("cot/train/0", "2", "So \\boxed{2}.")
    assert task.problem.tags == {"dataset": "gsm8k", "teacher_model": "t"}
    assert len(CoT(path, only_correct=False, validation=0).tasks("train")) == 2


def test_dialogues_ask_for_the_worked_solutions(tmp_path: Path) -> None:
    [chat] = CoT(str(write_jsonl(tmp_path / "cot.jsonl", [COT])), validation=0).dialogues("train")
    assert chat[0].text.startswith("1 + 1?")
    assert chat[1].text == "So \\boxed{2}."


def test_a_test_file_is_never_trained_on(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "test.jsonl", QUESTIONS)
    assert len(GSM8K(str(path)).tasks("test")) == 40
    with pytest.raises(FileNotFoundError, match="no train split here"):
        GSM8K(str(path)).tasks("train")


@pytest.mark.slow
def test_the_real_data_sets(real_data: Path) -> None:
    gsm8k = GSM8K(str(real_data / "gsm8k"))
    math = MATH(str(real_data / "math"), math500=str(real_data / "math500"))
    sizes = {
        split: (len(gsm8k.tasks(split)), len(math.tasks(split)))
        for split in ("train", "validation", "test")
    }
    assert sizes["train"][0] + sizes["validation"][0] == 7473
    assert sizes["train"][1] + sizes["validation"][1] == 4500
    assert sizes["test"] == (1319, 500)
    assert 0.04 < sizes["validation"][0] / 7473 < 0.06
    tasks = [*everything(gsm8k), *everything(math)]
    assert len({task.problem.id for task in tasks}) == len(tasks)
    assert [t.problem.id for t in tasks if not grade(t.solution or "", t.gold).correct] == []
    assert [t.problem.id for t in tasks if "<<" in (t.solution or "")] == []
