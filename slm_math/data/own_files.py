"""Files of one's own: which split a row belongs to, by the name of its file and by its problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from slm_math.data.base import SPLITS, Split
from slm_math.data.files import FileRow, data_files, read_rows
from slm_math.data.identity import question_key
from slm_math.data.published import existing_path, is_held_out, split_by_problem
from slm_math.types import Problem

T = TypeVar("T")
VALIDATION = ("validation", "valid", "val", "dev")  # the first word of a file's name


@dataclass(frozen=True)
class Item(Generic[T]):
    """Something that a file holds: the split that the file's name says, the problem that decides
    whether it is held out, and the thing itself.
    """

    split: Split
    problem: Problem
    value: T


def existing_paths(path: str | Sequence[str], owner: str) -> list[Path]:
    """The files and folders of a data set. Raises FileNotFoundError for one that does not exist."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        raise ValueError(f"{owner}.path names no file and no folder")
    return [existing for each in paths if (existing := existing_path(each))]


def rows_by_split(paths: Iterable[Path]) -> list[tuple[Split, FileRow]]:
    """All rows of files and folders, in order, each with the split that its file's name says."""
    return [
        (file_split(file), row)
        for path in paths
        for file in data_files(path)
        for row in read_rows(file)
    ]


def file_split(file: Path) -> Split:
    """The split of a file: `test...` is for testing, the first word `validation`, `valid`, `val` or
    `dev` means validation, and every other name training.
    """
    name = file.name.lower()
    if name.startswith("test"):
        return "test"
    word = name[: next((n for n, char in enumerate(name) if not char.isalpha()), len(name))]
    return "validation" if word in VALIDATION else "train"


def items_of(items: Sequence[Item[T]], split: Split, validation: float) -> list[T]:
    """The items of a split: those of its files, and of the training files a share for validation
    that a hash of the problem decides.

    A problem is in one split only: what a test file has is in no other split, and what a validation
    file has is not trained on.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    splits = split_by_problem(((item.problem, item.split) for item in items), validation)
    return [
        item.value
        for item in items
        if splits[question_key(item.problem)] == split == _own_split(item, validation)
    ]


def _own_split(item: Item[T], validation: float) -> Split:
    """The split of an item if there were no copies of it."""
    held_out = item.split == "train" and is_held_out(item.problem, validation)
    return "validation" if held_out else item.split
