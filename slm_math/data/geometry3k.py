"""Geometry3K: problems about geometric diagrams with four choices (Lu et al. 2021, "Inter-GPS").

A `data.json` of the original folders, beside `img_diagram.png`, looks like this (an invented one):

    {"annotat_text": "Find $x$.", "problem_text": "Find x.", "choices": ["3", "4", "5", "6"],
     "answer": "C", "id": 7, "data_type": "train", "problem_type_graph": ["Triangle"],
     "problem_type_goal": ["Length"]}

A row of the Parquet files of `hiyouga/geometry3k`:

    {"images": [{"bytes": "...", "path": null}], "problem": "<image>Find $x$.", "answer": "5",
     "id": 7, "choices": ["3", "4", "5", "6"], "ground_truth": "C"}
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slm_math.data.base import Split
from slm_math.data.files import FileRow, HubFile, fetch, iterate_rows
from slm_math.data.published import checked_limit, existing_path
from slm_math.data.visual import (
    Unusable,
    UnusableRow,
    VisualSource,
    checked_images,
    files_of_part,
    images_of,
    is_numeric,
    rows_of,
)
from slm_math.data.visual_text import letter_of, parts_of
from slm_math.types import Problem, Task

REPOSITORY, REVISION = "hiyouga/geometry3k", "main"
DIAGRAM = "img_diagram.png"
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}


class Geometry3K(VisualSource):
    """Problems about geometric diagrams: 2,101 to train on, 300 to validate, 601 to test.

    Args:
        path: the original folders (`train/7/data.json`, or `7/data.json` whose `data_type` says the
            split), or the Parquet files of `hiyouga/geometry3k`. By default these from the hub.
        limit: keep only the first problems of each split.
        unusable: what becomes of rows whose image or answer cannot be used: `refuse` raises an
            error that names them, `skip` leaves them out.
    """

    name = "geometry3k"
    published = ("train", "validation", "test")

    def __init__(
        self, path: str | None = None, limit: int | None = None, unusable: Unusable = "refuse"
    ) -> None:
        self.path, self.limit = existing_path(path), checked_limit(limit)
        self.validation, self.unusable = 0.0, unusable

    def _rows(self, part: Split) -> Iterable[FileRow]:
        if self.path is None:
            file = fetch(self._hub_file(part), f"; or set `path` to a local copy of {REPOSITORY}")
            return rows_of([file])
        if self.path.is_dir() and (folders := _folders(self.path, part)):
            return (row for folder in folders for row in _of_folder(folder, part))
        return rows_of(files_of_part(self.path, part))

    def _tasks(self, id: str, row: FileRow) -> list[Task]:
        if "folder" in row.fields:
            images = checked_images(row, DIAGRAM, [row.text("folder")])
            name = "annotat_text" if row.fields.get("annotat_text") else "problem_text"
            answer = row.text("answer")
        else:
            images, name = images_of(row, "images"), "problem"
            answer = row.text("ground_truth" if row.fields.get("ground_truth") else "answer")
        text, choices = parts_of(row.text(name)).question, row.texts("choices")
        if not choices:  # as the first version of the Parquet files has them
            kind = "num" if is_numeric(answer) else "math"
            return [Task(Problem(id, text, kind, images=images, tags=_tags(row)), answer)]
        gold = letter_of(answer, choices)
        if gold is None:
            raise UnusableRow(f"{row.place}: field 'answer' names no choice: {answer!r:.40}")
        return [Task(Problem(id, text, "mc", choices, images=images, tags=_tags(row)), gold)]

    def hub_files(self) -> list[HubFile]:
        return [] if self.path else [self._hub_file(part) for part in self.published]

    @staticmethod
    def _hub_file(part: str) -> HubFile:
        return HubFile(REPOSITORY, f"data/{part}-00000-of-00001.parquet", REVISION)


def _folders(path: Path, part: Split) -> list[Path]:
    """The folders of problems in the order of their numbers: those of a split, or all."""
    for inside in (path / _FOLDERS[part], path / part, path):
        found = [file.parent for file in inside.glob("*/data.json")]
        if found:
            return sorted(found, key=lambda folder: (len(folder.name), folder.name))
    return []


def _of_folder(folder: Path, part: Split) -> Iterable[FileRow]:
    """The row of a folder, if it is of the split, with the path of its diagram."""
    for row in iterate_rows(folder / "data.json"):
        if row.fields.get("data_type", _FOLDERS[part]) in (part, _FOLDERS[part]):
            fields = {**row.fields, "folder": str(folder / DIAGRAM)}
            yield FileRow(f"{folder.name}/data.json", fields)


def _tags(row: FileRow) -> dict[str, str]:
    named = {"shape": "problem_type_graph", "goal": "problem_type_goal"}
    tags = {tag: ", ".join(row.texts(field)) for tag, field in named.items()}
    return {tag: value for tag, value in tags.items() if value}
