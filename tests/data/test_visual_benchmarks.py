"""The benchmarks of visual problems, on hand-made files in their shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.visual_files import embedded, facts, png, write_parquet

from slm_math.data import VisualBenchmark
from slm_math.data.base import NoProblems, read_tasks

pytestmark = pytest.mark.usefixtures("cache")


def test_mathvista(tmp_path: Path) -> None:
    usual = {"question": "How many?", "image": "images/7.jpg", "decoded_image": embedded(png(1))}
    usual |= {"unit": None, "precision": None, "choices": None}
    metadata = {"source": "FigureQA", "task": "figure question answering", "skills": ["counting"]}
    rows = [
        {"pid": "1", "choices": ["three", "four"], "answer": "four", "answer_type": "text"},
        {"pid": "2", "answer": "1.45", "answer_type": "float", "precision": 2.0, "unit": "$"},
        {"pid": "3", "answer": "12", "answer_type": "integer"},
        {"pid": "4", "answer": "[2007, 2008]", "answer_type": "list"},
    ]
    rows = [usual | {"metadata": metadata} | row for row in rows]
    file = write_parquet(tmp_path / "testmini-00000-of-00001.parquet", rows)
    source = VisualBenchmark("mathvista", str(file))
    chosen, price, count, years = read_tasks(source, "test")
    assert facts(chosen) == ("How many?", "mc", ("three", "four"), "B")
    assert (price.problem.text, price.gold) == ("How many? (Unit: $)", "1.45")
    assert float(price.tolerance or 0) == 0.005
    assert (count.gold, count.problem.answer_type, count.tolerance) == ("12", "num", None)
    assert years.problem.answer_type == "math"
    assert chosen.problem.tags["data_source"] == "FigureQA"
    with pytest.raises(NoProblems, match="mathvista is a test set"):
        source.tasks("train")


def test_mathverse(tmp_path: Path) -> None:
    usual = {"sample_index": "7", "problem_index": "2", "image": embedded(png(1))}
    usual |= {"metadata": {"subject": "Plane Geometry", "subfield": "Angle"}}
    rows = [
        {
            "problem_version": "Text Lite",
            "question": "Find x.\nChoices:\nA:3\nB:4",
            "question_type": "multi-choice",
            "answer": "B",
        },
        {
            "problem_version": "Vision Only",
            "question": "",
            "question_type": "multi-choice",
            "answer": "D",
        },
        {
            "problem_version": "Text Lite",
            "question": "Find x.",
            "question_type": "free-form",
            "answer": "2*\\pi",
        },
    ]
    file = write_parquet(tmp_path / "testmini.parquet", [usual | row for row in rows])
    lite, vision, free = read_tasks(VisualBenchmark("mathverse", str(file.parent)), "test")
    assert facts(lite) == ("Find x.", "mc", ("3", "4"), "B")
    assert facts(vision) == ("Answer the question in the image.", "mc", (), "D")
    assert facts(free) == ("Find x.", "math", (), "2*\\pi")
    assert lite.problem.tags["version"] == "Text Lite"


def test_mathvision(tmp_path: Path) -> None:
    usual = {"decoded_image": embedded(png(1)), "image": "images/7.jpg", "level": 2}
    usual |= {"subject": "counting", "solution": None}
    rows = [
        {"question": "Which? <image1>", "options": ["3", "4"], "answer": "B"},
        {"question": "<image1> Which?", "options": ["A", "B", "C"], "answer": "C"},
        {"question": "How many dots?\n<image1>", "options": [], "answer": "9"},
    ]
    file = write_parquet(tmp_path / "test.parquet", [usual | row for row in rows])
    texts, parts, count = read_tasks(VisualBenchmark("mathvision", str(file)), "test")
    assert facts(texts) == ("Which?", "mc", ("3", "4"), "B")
    assert facts(parts) == ("Which?", "mc", (), "C")  # the image shows A, B and C
    assert facts(count) == ("How many dots?", "num", (), "9")
    assert texts.problem.tags == {"level": "2", "subject": "counting"}
