"""Rows of files, of folders of files and of the Hugging Face hub, each with its place.

Every error names the file and the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slm_math.data.formats import SUFFIXES, is_data_file, records
from slm_math.data.golds import is_number, number_text
from slm_math.data.hub import hub_is_away, use_cache_if_away
from slm_math.data.json_lines import Line, RowError, parse
from slm_math.images import store_image

DESCRIPTIONS = ("manifest.json", "card.json")  # of built data, beside its rows


@dataclass(frozen=True)
class HubFile:
    """One file of a data set on the Hugging Face hub, at a fixed revision."""

    repo: str
    file: str
    revision: str

    def __str__(self) -> str:
        return f"{self.repo}/{self.file}"


@dataclass(frozen=True)
class FileRow:
    """One record, its place ("train.jsonl, line 17"), and the folder of its file."""

    place: str
    fields: Mapping[str, Any]
    folder: Path = Path()

    def is_number(self, name: str) -> bool:
        """Whether the field is a number, which `text` takes as text."""
        return is_number(self.fields.get(name))

    def text(self, name: str) -> str:
        """The field as text; a number becomes the text that a reference answer would. Raises
        ValueError with its place if it is neither, or empty.
        """
        value = self.fields.get(name)
        if value is None:
            raise self.error(name, "is missing")
        if self.is_number(name):
            try:
                return number_text(value)
            except ValueError as error:
                raise self.error(name, str(error)) from None
        if not isinstance(value, str):
            raise self.error(name, f"must be text, got {type(value).__name__}")
        if not value.strip():
            raise self.error(name, "is empty")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a field that is a list of texts or numbers, or one of these; () if missing.
        Raises ValueError with its place otherwise.
        """
        value = self.fields.get(name)
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) or is_number(each) for each in values):
            raise self.error(name, f"must be a list of texts, got {value!r:.60}")
        return tuple(each if isinstance(each, str) else number_text(each) for each in values)

    def flag(self, name: str, default: bool) -> bool:
        """The field as a truth value; `default` if it is missing. Raises ValueError otherwise."""
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, f"must be true or false, got {value!r}")
        return value

    def error(self, name: str, problem: str) -> ValueError:
        return ValueError(f"{self.place}: field {name!r} {problem}")


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split in a folder: `train.jsonl`, `train-*.parquet` (also in `main/` or
    `data/`), or the tree `train/<subject>/<number>.json`; [] if there are none."""
    for inside in (folder, folder / "main", folder / "data"):
        for pattern in (f"{split}{{}}", f"{split}-*{{}}"):
            for suffix in (*SUFFIXES, *(f"{one}.gz" for one in SUFFIXES)):
                if files := sorted(inside.glob(pattern.format(suffix))):
                    return files
    return sorted((folder / split).glob("*/*.json"), key=_tree_order)


def _tree_order(file: Path) -> tuple[str, int, str]:
    return file.parent.name, int(file.stem) if file.stem.isdigit() else 0, file.stem


def read_rows(file: Path) -> list[FileRow]:
    """All rows of a file of any format. Raises FileNotFoundError, or ValueError with the file and
    the line of the first malformed row.

    Images inside of a row, as Parquet files of the hub have them, become paths: each is written
    once into the cache folder.
    """
    rows = list(iterate_rows(file))
    if len(rows) == 1 and file.suffix == ".json":  # the folder of such a file says more
        return [replace(rows[0], place=f"{file.parent.name}/{file.name}")]
    return rows


def iterate_rows(file: Path) -> Iterator[FileRow]:
    """The rows of `read_rows` one after the other: who stops early has read no more."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist")
    for number, row, _ in records(file):
        yield _row(file, number, row)


def readable_rows(file: Path) -> Iterator[FileRow | ValueError]:
    """As `iterate_rows`, with an error in the place of each row that cannot be read."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist")
    for number, row, _ in records(file):
        try:
            yield _row(file, number, row)
        except ValueError as error:
            yield error


def _row(file: Path, number: int, row: Line | dict[str, Any]) -> FileRow:
    place = f"{file.name}, {'line' if isinstance(row, bytes) else 'row'} {number}"
    try:
        if isinstance(row, dict):
            fields = {name: _without_bytes(value) for name, value in row.items()}
            return FileRow(place, fields, file.parent)
        return FileRow(place, parse(row), file.parent)
    except RowError as error:
        raise ValueError(f"{place}: {error}") from None


def _without_bytes(value: Any) -> Any:
    """The value with paths instead of images: bytes, {"bytes": ..., "path": ...} as `datasets`
    writes them, or a list of these.
    """
    if isinstance(value, bytes):
        return store_image(value)
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        return store_image(value["bytes"]) if value["bytes"] else value["path"]
    if isinstance(value, list) and value and isinstance(value[0], bytes | dict):
        return [_without_bytes(each) for each in value]
    return value


def data_files(path: Path) -> list[Path]:
    """A file itself, or the files of known formats anywhere in a folder, in the order of their
    paths; what describes data (a manifest, a data card) holds no rows. Raises ValueError if there
    are none.
    """
    if path.is_file():
        return [path]
    files = sorted(
        file for file in path.rglob("*") if is_data_file(file) and file.name not in DESCRIPTIONS
    )
    if not files:
        raise ValueError(
            f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}, or in .gz after these"
        )
    return files


def fetch(file: HubFile, instead: str = "") -> Path:
    """The path of a hub file in the local cache; downloads the file if it is not there.

    HF_TOKEN and HF_HUB_OFFLINE apply. Raises FileNotFoundError with one line, which ends in the
    alternative `instead`.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    use_cache_if_away()
    try:
        return Path(
            huggingface_hub.hf_hub_download(
                file.repo, file.file, repo_type="dataset", revision=file.revision
            )
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"cannot get {file} from the hub: {hub_problem(error)}{instead}"
        ) from error


def hub_problem(error: Exception) -> str:
    """Why a download from the hub failed, and what to do, in one clause."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "access to it is restricted; accept its terms on the hub and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it needs a token (set HF_TOKEN)"
    asked = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    if asked or (constants.HF_HUB_OFFLINE and not hub_is_away(constants.ENDPOINT)):
        return "it is not in the cache and HF_HUB_OFFLINE is set; fetch it once with a network"
    if isinstance(error, errors.LocalEntryNotFoundError | ConnectionError | TimeoutError):
        return (
            "it is not in the cache and the hub cannot be reached; check the network or HF_ENDPOINT"
        )
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
