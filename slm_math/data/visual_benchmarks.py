"""Benchmarks of visual mathematics: MathVista (Lu et al. 2024), MathVerse (Zhang et al. 2024) and
MATH-Vision (Wang et al. 2024). They are tested on, never trained on.

Rows of their Parquet files (invented):

    {"pid": "7", "question": "How many bars are red?", "decoded_image": {"bytes": "..."},
     "image": "images/7.jpg", "choices": ["3", "4"], "answer": "4", "question_type": "multi_choice",
     "answer_type": "text", "precision": null, "unit": null, "metadata": {"task": "figure ..."}}
    {"sample_index": "7", "problem_index": "2", "problem_version": "Text Lite",
     "question": "How long is x?\\nChoices:\\nA:3\\nB:4", "image": {"bytes": "..."}, "answer": "B",
     "question_type": "multi-choice", "metadata": {"subject": "Plane Geometry"}}
    {"id": "7", "question": "How many dots has <image1>?", "options": [], "answer": "9",
     "decoded_image": {"bytes": "..."}, "image": "images/7.jpg", "level": 2, "subject": "counting"}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slm_math.data.base import NoProblems, Split
from slm_math.data.files import FileRow, HubFile, fetch
from slm_math.data.published import checked_limit, existing_path
from slm_math.data.visual import (
    Unusable,
    UnusableRow,
    VisualSource,
    files_of_part,
    images_of,
    is_numeric,
    rows_of,
)
from slm_math.data.visual_text import letter_of, parts_of
from slm_math.types import AnswerType, Image, Problem, Task

Name = Literal["mathvista", "mathverse", "mathvision"]
IN_IMAGE = "Answer the question in the image."  # of problems whose text is there alone


class VisualBenchmark(VisualSource):
    """MathVista (testmini, 1,000 problems), MathVerse (testmini, 3,940, of which each problem has
    five versions) or MATH-Vision (3,040).

    Args:
        name: mathvista, mathverse or mathvision.
        path: its Parquet file, or a folder that holds it. By default it comes from the hub.
        limit: keep only the first problems.
        unusable: what becomes of rows whose image or answer cannot be used: `refuse` raises an
            error that names them, `skip` leaves them out.
    """

    published = ("test",)

    def __init__(
        self,
        name: Name,
        path: str | None = None,
        limit: int | None = None,
        unusable: Unusable = "refuse",
    ) -> None:
        self.name, self.benchmark = name, BENCHMARKS[name]
        self.path, self.limit = existing_path(path), checked_limit(limit)
        self.validation, self.unusable = 0.0, unusable

    def _rows(self, part: Split) -> Iterable[FileRow]:
        if part != "test":
            raise NoProblems(f"{self.name} is a test set; it has no {part} split")
        if self.path is None:
            return rows_of([fetch(self.benchmark.file, "; or set `path` to a local copy")])
        if self.path.is_file():  # whatever its name is: a benchmark has no other split
            return rows_of([self.path])
        return rows_of(files_of_part(self.path, self.benchmark.part))

    def _tasks(self, id: str, row: FileRow) -> list[Task]:
        name = "decoded_image" if row.fields.get("decoded_image") else "image"
        return [self.benchmark.read(id, row, images_of(row, name, self._folder()))]

    def _folder(self) -> Path | None:
        """What paths of images are relative to."""
        return self.path.parent if self.path is not None and self.path.is_file() else self.path

    def hub_files(self) -> list[HubFile]:
        return [] if self.path else [self.benchmark.file]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's file, the published name of its split, and how its rows are read."""

    file: HubFile
    part: str
    read: Callable[[str, FileRow, tuple[Image, ...]], Task]


def _mathvista(id: str, row: FileRow, images: tuple[Image, ...]) -> Task:
    metadata = _metadata(row)
    names = ("source", "task", "category", "grade", "language")
    tags = {name: str(metadata[name]) for name in names if metadata.get(name)}
    if "source" in tags:
        tags["data_source"] = tags.pop("source")
    text, answer = row.text("question"), row.text("answer")
    if row.fields.get("unit"):
        text += f" (Unit: {row.text('unit')})"
    choices = row.texts("choices")
    if choices:
        return _chosen(Problem(id, text, "mc", choices, images=images, tags=tags), answer, row)
    kind: AnswerType = "num" if row.fields.get("answer_type") in ("integer", "float") else "math"
    digits = row.fields.get("precision")
    # a number with two digits behind the point stands for all that are rounded to it
    tolerance = f"{0.5 * 10 ** -int(digits):.10f}" if kind == "num" and digits else None
    return Task(Problem(id, text, kind, images=images, tags=tags), answer, None, tolerance)


def _mathverse(id: str, row: FileRow, images: tuple[Image, ...]) -> Task:
    metadata = _metadata(row)
    tags = {name: str(metadata[name]) for name in ("subject", "subfield") if metadata.get(name)}
    tags["version"] = row.text("problem_version")
    parts = parts_of(str(row.fields.get("question") or ""))
    text, answer = parts.question or IN_IMAGE, row.text("answer")
    if row.text("question_type") == "multi-choice":
        return _chosen(
            Problem(id, text, "mc", parts.choices, images=images, tags=tags), answer, row
        )
    return Task(Problem(id, text, "math", images=images, tags=tags), answer)


def _mathvision(id: str, row: FileRow, images: tuple[Image, ...]) -> Task:
    tags = {name: str(row.fields[name]) for name in ("level", "subject") if row.fields.get(name)}
    text, answer = parts_of(row.text("question")).question, row.text("answer")
    options = row.texts("options")
    if not options:
        kind: AnswerType = "num" if is_numeric(answer) else "math"
        return Task(Problem(id, text, kind, images=images, tags=tags), answer)
    # options that are only their letters are parts of the image
    letters = [chr(ord("A") + number) for number in range(len(options))]
    choices = () if [option.strip() for option in options] == letters else options
    return _chosen(Problem(id, text, "mc", choices, images=images, tags=tags), answer, row)


def _chosen(problem: Problem, answer: str, row: FileRow) -> Task:
    letter = letter_of(answer, problem.choices)
    if letter is None:
        raise UnusableRow(f"{row.place}: field 'answer' names no choice: {answer!r:.60}")
    return Task(problem, letter)


def _metadata(row: FileRow) -> Mapping[str, object]:
    metadata = row.fields.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


BENCHMARKS: dict[str, Benchmark] = {
    "mathvista": Benchmark(
        HubFile(
            "AI4Math/MathVista",
            "data/testmini-00000-of-00001-725687bf7a18d64b.parquet",
            "deaf7e8d477459250e9cbd78d010bca88c6d28e8",
        ),
        "testmini",
        _mathvista,
    ),
    "mathverse": Benchmark(
        HubFile(
            "AI4Math/MathVerse", "testmini.parquet", "268dfc55b62296be3bdf6406d6dea07bd06a7d64"
        ),
        "testmini",
        _mathverse,
    ),
    "mathvision": Benchmark(
        HubFile(
            "MathLLMs/MathVision",
            "data/test-00000-of-00001-3532b8d3f1b4047a.parquet",
            "0c681f39d3dacd336abf62ceb833e40320c8599f",
        ),
        "test",
        _mathvision,
    ),
}
