"""What tests of published data sets share: rows as they hold them, files of every format, and all
tasks of a source.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet

from slm_math.data.base import Source
from slm_math.types import Task

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
    """Writes one object in each line, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def write_json(path: Path, rows: list[dict]) -> Path:
    """Writes one list of objects, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    """Writes a table, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def write_tree(folder: Path, rows: list[dict]) -> Path:
    """Writes one file for each row, in a folder of its type, and returns the folder of all."""
    for number, row in enumerate(rows):
        file = folder / row["type"].lower() / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row, indent=2), encoding="utf-8")
    return folder


def everything(source: Source) -> list[Task]:
    """The tasks of all splits of a source."""
    return [task for split in ("train", "validation", "test") for task in source.tasks(split)]


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
