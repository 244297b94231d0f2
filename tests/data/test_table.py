"""Tables of any format and any names of columns are problems; what is ambiguous is refused."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from data.published import write_jsonl

from slm_math.data import Table
from slm_math.data.base import read_tasks
from slm_math.types import Task

ROWS = [{"question": "What is 15 % of 80?", "answer": "12"}, {"question": "3, 4?", "answer": "7"}]


def table(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[Task]:
    path = write_jsonl(tmp_path / "rows.jsonl", list(rows))
    return read_tasks(Table(str(path), validation=0, **options), "train")


def write(path: Path) -> None:
    kind = path.suffixes[0]
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        return
    if kind in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, ROWS[0], delimiter="\t" if kind == ".tsv" else ",")
            rows.writeheader()
            rows.writerows(ROWS)
    else:
        path.write_text(json.dumps(ROWS) if kind == ".json" else "\n".join(map(json.dumps, ROWS)))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))


NAMES = ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "x.jsonl.gz", "x.csv.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_has_the_same_problems(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    for path in (tmp_path, tmp_path / name):
        tasks = read_tasks(Table(str(path), validation=0), "train")
        assert [(task.problem.text, task.gold, task.problem.id) for task in tasks] == [
            ("What is 15 % of 80?", "12", "table/0"),
            ("3, 4?", "7", "table/1"),
        ]


WORKED = "0.15*80 = 12, so \\boxed{12}."
COLUMNS = {
    "worked answer": ({"question": "Q?", "answer": "6+6.\n#### 12"}, "12", "6+6.\n#### 12"),
    "solution": ({"problem": "Q?", "solution": WORKED}, "12", WORKED),
    "both": ({"problem": "Q?", "answer": "12", "solution": WORKED}, "12", WORKED),
    "alpaca": ({"instruction": "Q?", "input": "", "output": WORKED}, "12", WORKED),
    "completion": ({"prompt": "Q?", "completion": WORKED}, "12", WORKED),
    "number": ({"query": "Q?", "target": 12.0}, "12", None),
    "messages": (
        {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": WORKED}]},
        "12",
        WORKED,
    ),
}


@pytest.mark.parametrize(("row", "gold", "solution"), COLUMNS.values(), ids=COLUMNS)
def test_usual_names_are_known(
    row: dict[str, Any], gold: str, solution: str | None, tmp_path: Path
) -> None:
    [task] = table(tmp_path, row)
    assert (task.problem.text, task.gold, task.solution) == ("Q?", gold, solution)


def test_an_input_belongs_to_its_instruction(tmp_path: Path) -> None:
    [task] = table(tmp_path, {"instruction": "Compute", "input": "6+6", "output": WORKED})
    assert task.problem.text == "Compute\n6+6"


def test_options_name_columns(tmp_path: Path) -> None:
    row = {"q": "Q?", "a": "B", "why": "Because", "of": ["11", "12"], "key": 7, "level": 3}
    [task] = table(
        tmp_path, row, problem="q", answer="a", solution="why", choices="of", id="key",
        tags=["level"], name="quiz",
    )  # fmt: skip
    assert task.problem.id == "quiz/7"
    assert task.problem.choices == ("11", "12")
    assert task.problem.answer_type == "mc"
    assert task.problem.tags == {"level": "3"}
    assert (task.gold, task.solution) == ("B", "Because")


def test_a_tolerance_for_all_rows_or_of_each(tmp_path: Path) -> None:
    row = {"question": "Q?", "answer": "2.5", "tolerance": 0.1, "answer_type": "num"}
    [own] = table(tmp_path, row)
    [all_rows] = table(tmp_path, row, tolerance="2%")
    assert (own.problem.answer_type, own.tolerance) == ("num", 0.1)
    assert all_rows.tolerance == "2%"


REFUSED = {
    "two problems": (
        {"problem": "Q", "question": "R", "answer": "1"},
        {},
        "columns problem and question may both be the problem: name one with problem: problem",
    ),
    "two answers": ({"question": "Q", "answer": "1", "gold": "2"}, {}, "both be the answer"),
    "no problem": ({"text": "Q", "answer": "1"}, {}, "no column has a usual name of a problem"),
    "no answer": ({"question": "Q"}, {}, "no column has a usual name of an answer or a solution"),
    "wrong option": (
        {"question": "Q", "answer": "1"},
        {"id": "key"},
        "no row has the column",
    ),
    "choices": ({"question": "Q", "answer": "1", "choices": "A"}, {}, "must be a list of texts"),
    "long chat": (
        {"messages": [{"role": "user", "content": "Q"}] * 2},
        {},
        "line 1: a chat of a table has one question and one reply",
    ),
}


@pytest.mark.parametrize(("row", "options", "said"), REFUSED.values(), ids=REFUSED)
def test_what_nobody_can_tell_is_refused(
    row: dict[str, Any], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        table(tmp_path, row, **options)


def test_a_row_without_an_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2: field 'answer' is missing"):
        table(tmp_path, ROWS[0], {"question": "Q", "answer": None})


def test_the_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"question,answer\nHow many?,1\nCaf\xe9s?,2\n")
    with pytest.raises(ValueError, match=r"x\.csv, line 3: not UTF-8 text"):
        Table(str(tmp_path / "x.csv")).tasks("train")


def test_deep_brackets_are_no_crash(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"x\.jsonl"):
        Table(str(tmp_path / "x.jsonl")).tasks("train")
