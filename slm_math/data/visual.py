"""What the published sets of visual problems share: which images and rows can be used, what happens
with the others, and how files name their images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from slm_math.answers.tolerance import compared
from slm_math.data.base import Source, Split
from slm_math.data.files import FileRow, iterate_rows, split_files
from slm_math.data.own_files import VALIDATION
from slm_math.data.published import is_held_out
from slm_math.images import ImageError, as_path, check_image
from slm_math.types import Image, Task

Unusable = Literal["refuse", "skip"]


class UnusableRow(ValueError):
    """A row of which no problem can be made: its image cannot be seen, or its answer not read."""


class VisualSource(Source):
    """A published set of problems about images. A subclass sets the attributes, and defines
    `_rows`, `_tasks` and `published`.

    A row that cannot be used is an error that names it; with `unusable: skip` it is left out, and
    the number of these is printed. No image is ever replaced by another.
    """

    path: Path | None
    validation: float
    limit: int | None
    unusable: Unusable
    published: Sequence[Split] = ("train",)  # of a set without validation, a share of train is

    def _rows(self, part: Split) -> Iterable[FileRow]:
        """The rows of a published split."""
        raise NotImplementedError

    def _tasks(self, id: str, row: FileRow) -> list[Task]:
        """The problems of a row. Raises UnusableRow."""
        raise NotImplementedError

    def tasks(self, split: Split) -> list[Task]:
        tasks, left_out = self.readable(split)
        if left_out and self.unusable == "refuse":
            more = f" (and {len(left_out) - 1} more rows)" if len(left_out) > 1 else ""
            raise ValueError(
                f"{left_out[0][1]}{more}; unusable: skip leaves such rows of {self.name} out"
            )
        return tasks

    def readable(self, split: Split) -> tuple[list[Task], list[tuple[str, str]]]:
        known: dict[Split, tuple[list[Task], list[tuple[str, str]]]]
        known = self.__dict__.setdefault("_known", {})
        if split not in known:
            try:
                known[split] = self._read(split)
            except FileNotFoundError:
                if split != "validation":
                    raise
                known[split] = [], []  # of a copy without this split; training does without it
        return known[split]

    def _read(self, split: Split) -> tuple[list[Task], list[tuple[str, str]]]:
        part: Split = split
        if split == "validation" and "validation" not in self.published:
            part = "train"
        tasks: list[Task] = []
        left_out: list[tuple[str, str]] = []
        for number, row in enumerate(self._rows(part)):
            id = f"{self.name}/{part}/{number}"
            try:
                some = self._tasks(id, row)
                if not all(task.problem.text for task in some):
                    raise UnusableRow(f"{row.place}: there is no question beside its form")
            except UnusableRow as error:
                left_out.append((id, str(error)))
                continue
            tasks += [task for task in some if self._is_of(task, split)]
            if self.limit is not None and len(tasks) >= self.limit:
                break
        return tasks[: self.limit], left_out

    def _is_of(self, task: Task, split: Split) -> bool:
        if split == "test" or "validation" in self.published:
            return True
        return is_held_out(task.problem, self.validation) == (split == "validation")

    def about(self, split: Split) -> str:
        """How many rows are left out, and why the first one is."""
        left_out = self.readable(split)[1] if self.unusable == "skip" else []
        if not left_out:
            return ""
        return (
            f"{self.name}/{split}: {len(left_out)} rows cannot be used and are left out; the first,"
            f" {left_out[0][1]}"
        )


def images_of(row: FileRow, name: str, folder: Path | None = None) -> tuple[Image, ...]:
    """The images that a field names, one path or a list of these, relative to `folder` or that of
    the row's file.

    Raises UnusableRow, with the place of the row, if there is none or one cannot be seen.
    """
    sources = row.texts(name)
    if not sources:
        raise UnusableRow(f"{row.place}: field {name!r} names no image")
    return checked_images(row, name, [placed(one, folder or row.folder) for one in sources])


def placed(source: str, folder: Path) -> str:
    """The path or URL of an image, whose path may be relative to a folder."""
    # a path of an image that was inside of a row is absolute, and stays what it is
    is_url = source.startswith(("data:", "http://", "https://"))
    return source if is_url else str(folder / source)


def checked_images(row: FileRow, name: str, sources: Sequence[str]) -> tuple[Image, ...]:
    """The images, of which each can be seen; those of data URLs are files then. Raises UnusableRow
    with the place of the row.
    """
    found: list[Image] = []
    for source in sources:
        try:
            check_image(source)
            found.append(Image(as_path(source)))
        except ImageError as error:
            raise UnusableRow(f"{row.place}: field {name!r}: {error}") from None
    return tuple(found)


def rows_of(files: Sequence[Path], list_name: str = "") -> Iterator[FileRow]:
    """The rows of files in order; of a file that is one object, those of its list `list_name`."""
    for file in files:
        for row in iterate_rows(file):
            inner = row.fields.get(list_name) if list_name else None
            if isinstance(inner, list):
                for number, fields in enumerate(inner, 1):
                    yield FileRow(f"{file.name}, {list_name} {number}", fields, row.folder)
            else:
                yield row


def files_of_part(path: Path, part: str, *names: str) -> list[Path]:
    """The files of a published split: those of a folder by the usual names, or by one of `names`; a
    file itself, if its name says this split (without a word on it, it is for training). Raises
    FileNotFoundError if there is none.
    """
    if path.is_file():
        files = [path] if _split_of(path) == part else []
    else:
        named = [path / name for name in names if (path / name).is_file()]
        files = named[:1] or split_files(path, part)
    if not files:
        shown = ", ".join((f"{part}-*.parquet", *names))
        raise FileNotFoundError(f"{path}: no {part} split here; expected {shown}")
    return files


def _split_of(file: Path) -> Split:
    """The split that is a word of the file's name."""
    words = re.findall("[a-z]+", file.name.lower())
    if any(word.startswith("test") for word in words):
        return "test"
    return "validation" if set(words) & set(VALIDATION) else "train"


def is_numeric(answer: str) -> bool:
    """Whether the grader reads an answer as a number, so that it can be compared as "num"."""
    return compared(answer, answer, "0").equal
