"""Hand-made files in the shapes in which visual data sets are published."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image as Pillow

from slm_math.data.base import Source, read_tasks
from slm_math.types import Task


def png(number: int, size: tuple[int, int] = (12, 10)) -> bytes:
    """An image that differs for each number."""
    sink = io.BytesIO()
    Pillow.new("RGB", size, (number % 256, number // 256, 7)).save(sink, "PNG")
    return sink.getvalue()


def embedded(data: bytes) -> dict[str, Any]:
    """An image in a row, as `datasets` writes it."""
    return {"bytes": data, "path": None}


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


def write_json(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def write_image(file: Path, number: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png(number))
    return file


def geometry_folder(folder: Path, number: int, answer: str, **more: Any) -> None:
    """A problem of Geometry3K's original folders."""
    write_image(folder / "img_diagram.png", number)
    row = {
        "problem_text": f"Find x {number}.",
        "annotat_text": f"Find $x_{{{number}}}$.",
        "choices": ["3", "2 \\sqrt { 2 }", "4.5", "7"],
        "answer": answer,
        "problem_type_graph": ["Circle", "Line"],
        "problem_type_goal": ["Length"],
        "id": number,
        "data_type": "train",
    }
    write_json(folder / "data.json", row | more)


def first(source: Source, split: str = "train") -> Task:
    return read_tasks(source, split)[0]  # type: ignore[arg-type]


def facts(task: Task) -> tuple[Any, ...]:
    problem = task.problem
    return problem.text, problem.answer_type, problem.choices, task.gold


def talk(question: str, reply: str, **more: Any) -> dict[str, Any]:
    """A row of LLaVA's form: a question and its reply."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]
    return {"id": "7", "conversations": turns, **more}
