"""The same problems from every file format, clear errors for malformed rows, and no leak between
splits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from slm_math.answers import grade
from slm_math.data import GSM8K, MATH, MATH500, CoT
from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.download import download
from slm_math.data.files import HubFile
from slm_math.types import Problem, Task

QUESTIONS = [
    {
        "question": f"Ann has {n} pens and buys {n} more. How many?",
        "answer": f"She has {n}+{n}=<<{n}+{n}={2 * n}>>{2 * n} pens.\n#### {2 * n}",
    }
    for n in range(2, 42)
]
PROBLEMS = [
    {
        "problem": f"What is ${n}^2$?",
        "level": "Level 2",
        "type": "Algebra",
        "solution": f"It is $\\boxed{{{n * n}}}$.",
    }
    for n in range(40)
]
HELD_OUT = [
    {
        "problem": "What is $5^2$ ?\n",
        "solution": "$\\boxed{25}$",
        "answer": "25",
        "subject": "Algebra",
        "level": 2,
    },
    {
        "problem": "What is $0.5^2$?",
        "solution": "$\\boxed{0.25}$",
        "answer": "0.25",
        "subject": "Algebra",
        "level": 3,
    },
]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def write_json(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_tree(folder: Path, rows: list[dict]) -> Path:
    for number, row in enumerate(rows):
        file = folder / row["type"].lower() / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row, indent=2), encoding="utf-8")
    return folder


def everything(source: Source) -> list[Task]:
    return [task for split in ("train", "validation", "test") for task in source.tasks(split)]


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


COT = {
    "index": 0,
    "question": "1 + 1?",
    "ground_truth": "2",
    "predicted_answer": "2",
    "thinking_process": "hm",
    "solution": "So \\boxed{2}.",
    "correct": True,
    "teacher_model": "t",
    "dataset": "gsm8k",
}


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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "1?"}, "train.jsonl, line 17: field 'answer' is missing"),
        (
            {"question": "1?", "answer": True},
            "train.jsonl, line 17: field 'answer' must be text, got bool",
        ),
        (
            {"question": "1?", "answer": float("nan")},
            "train.jsonl, line 17: field 'answer' is nan, not a number",
        ),
        ({"question": " ", "answer": "#### 5"}, "train.jsonl, line 17: field 'question' is empty"),
        (
            {"question": "1?", "answer": "5"},
            "train.jsonl, line 17: field 'answer' does not end in '#### <answer>'",
        ),
        ([], "train.jsonl, line 17: expected an object with named fields, got list"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: dict, message: str) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", [*QUESTIONS[:16], row, *QUESTIONS[16:]])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GSM8K(str(path)).tasks("train")


NUMBERS = [
    (-48, "-48"),
    (7.0, "7"),
    (0.125, "0.125"),
    (3e-7, "0.0000003"),
    (10**30, "1" + "0" * 30),
]


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_a_number_is_taken_as_text(tmp_path: Path, number: float, text: str) -> None:
    def one(source: type[Source], split: Split, row: dict[str, Any]) -> Task:
        path = str(write_jsonl(tmp_path / f"{split}.jsonl", [row]))
        options = {} if source is MATH500 else {"validation": 0}
        [task] = read_tasks(source(path, **options), split)  # type: ignore[call-arg]
        return task

    assert one(GSM8K, "train", {"question": number, "answer": number}).gold == text
    assert one(MATH500, "test", {"problem": "1?", "answer": number}).gold == text
    made = one(CoT, "train", {"question": "1?", "ground_truth": number, "solution": number})
    assert (made.gold, made.solution) == (text, text)


def test_a_solution_that_is_a_number_is_taken_as_text() -> None:
    class Numbers(Source):
        name = "numbers"

        def tasks(self, split: Split) -> list[Task]:
            return [Task(Problem("n", "How many?"), 4.5, solution=4.5)]  # type: ignore[arg-type]

    [task] = read_tasks(Numbers(), "train")
    assert (task.gold, task.solution) == ("4.5", "4.5")


def test_other_malformed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "1?"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.jsonl, line 1: not valid JSON"):
        GSM8K(str(tmp_path / "train.jsonl")).tasks("train")
    (tmp_path / "train.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no rows"):
        GSM8K(str(tmp_path / "train.jsonl")).tasks("train")
    (tmp_path / "train.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"train\.parquet: not a Parquet file"):
        GSM8K(str(tmp_path / "train.parquet")).tasks("train")
    path = write_jsonl(tmp_path / "cot.jsonl", [COT, COT | {"correct": "yes"}])
    with pytest.raises(
        ValueError, match=r"cot\.jsonl, line 2: field 'correct' must be true or false, got 'yes'"
    ):
        CoT(str(path)).tasks("train")
    path = write_jsonl(tmp_path / "math.jsonl", [PROBLEMS[0] | {"solution": "It is 5."}])
    with pytest.raises(ValueError, match=r"math\.jsonl, line 1: field 'solution' has no"):
        MATH(str(path)).tasks("train")


def test_a_wrong_option_fails_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        GSM8K(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="validation must be a fraction"):
        GSM8K(validation=5)
    with pytest.raises(ValueError, match="limit must be a positive number"):
        MATH500(limit=0)


def test_a_test_file_is_never_trained_on(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "test.jsonl", QUESTIONS)
    assert len(GSM8K(str(path)).tasks("test")) == 40
    with pytest.raises(FileNotFoundError, match="no train split here"):
        GSM8K(str(path)).tasks("train")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A hub that serves small files; returns the list of what was asked for."""
    files = {
        "openai/gsm8k": {"train": QUESTIONS, "test": QUESTIONS[:5]},
        "DigitalLearningGmbH/MATH-lighteval": {"train": PROBLEMS[:30], "test": PROBLEMS[30:]},
    }
    asked = []

    def hf_hub_download(repo_id: str, filename: str, *, repo_type: str, revision: str) -> str:
        asked.append((repo_id, filename))
        assert repo_type == "dataset"
        assert len(revision) == 40
        if repo_id == "HuggingFaceH4/MATH-500":
            return str(write_jsonl(tmp_path / "hub" / filename, HELD_OUT[:1]))
        split = filename.split("/")[-1].split("-")[0]
        return str(write_parquet(tmp_path / "hub" / repo_id / filename, files[repo_id][split]))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    return asked


def test_without_a_path_the_hub_is_read(tmp_path: Path, hub: list) -> None:
    write_jsonl(tmp_path / "train.jsonl", QUESTIONS)
    write_jsonl(tmp_path / "test.jsonl", QUESTIONS[:5])
    assert everything(GSM8K()) == everything(GSM8K(str(tmp_path)))
    trained = MATH(validation=0).tasks("train")
    assert len(trained) == 39
    assert "What is $5^2$?" not in {task.problem.text for task in trained}
    assert [task.gold for task in MATH().tasks("test")] == ["25"]


def test_a_missing_test_problem_stops_training_on_hub_data(
    hub: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HELD_OUT[0], "problem", "What is $5^3$?")
    with pytest.raises(ValueError, match="1 of MATH-500's problems were not found"):
        MATH().tasks("train")


def test_an_unreachable_hub_is_one_line_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("long\nstory")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(FileNotFoundError) as error:
        GSM8K().tasks("test")
    assert str(error.value) == (
        "cannot get openai/gsm8k/main/test-00000-of-00001.parquet from the hub: it is not in the "
        "cache and the hub "
        "cannot be reached; check the network or HF_ENDPOINT; or set `path` to a local copy of "
        "openai/gsm8k"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
        GSM8K().tasks("test")


def test_download_fetches_each_file_once_and_reports_failures(
    tmp_path: Path, hub: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_model(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_model)
    local = GSM8K(str(write_jsonl(tmp_path / "train.jsonl", QUESTIONS)))
    failures = download([str(tmp_path), "someone/model"], [GSM8K(), MATH(), MATH500(), local])
    assert len(hub) == len(set(hub)) == 5
    assert local.hub_files() == []
    assert all(isinstance(file, HubFile) for file in GSM8K().hub_files())
    assert len(failures) == 1
    assert "someone/model" in failures[0]
    assert capsys.readouterr().err.count(f"error: {failures[0]}\n") == 1


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
