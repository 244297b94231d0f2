"""Rows out of the files that tools put around them: Inspect's logs, and objects of rows."""

from __future__ import annotations

import json
import struct
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

from slm_math.data.formats import Records, records
from slm_math.data.json_lines import MAX_LINE, RowError, parse

ZIP = b"PK\x03\x04"
SAMPLES = "samples/"  # the folder of an Inspect log
MOST = 1100  # times that deflate can make bytes smaller, and a little
_ZSTD = 93
_HEAD = struct.Struct("<26xHH")  # of a file in an archive: the lengths of name and extra field


def rows_of(path: Path) -> Records:
    """As `records`; of an Inspect log (`.eval`, `.json`) and of an OpenCompass file the samples.

    Raises ValueError for a file of another format, and for an archive that is none of Inspect's.
    """
    with path.open("rb") as file:
        is_archive = file.read(len(ZIP)) == ZIP
    if is_archive and path.suffix == ".eval":
        yield from _archive(path)
        return
    found = records(path)
    first = next(found, None)
    if first is None:
        return
    inside = _inside(first[1]) if path.name.removesuffix(".gz").endswith(".json") else None
    if inside is None:
        yield from chain([first], found)
    else:
        yield from ((number, row, first[2]) for number, row in enumerate(inside, 1))


def _inside(row: Any) -> list[dict[str, Any]] | None:
    """The samples in an object that is a whole file; None if it is a row itself."""
    try:
        content = row if isinstance(row, dict) else parse(row)
    except RowError:
        return None
    if isinstance(content.get("eval"), dict) and "status" in content:
        samples = content.get("samples")
        return [one for one in samples if isinstance(one, dict)] if samples else []
    values = list(content.values())
    if values and all(isinstance(one, dict) and "prediction" in one for one in values):
        return [{"number": number} | one for number, one in content.items()]
    return None


def _archive(path: Path) -> Records:
    """The samples of an Inspect log. Each is read when it is asked for, up to `MAX_LINE` bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            if sum(one.file_size for one in archive.infolist()) > MOST * size:
                raise ValueError(
                    f"{path}: its files would be more than {MOST} times as large as the archive, "
                    "which no log of Inspect is: refused"
                )
            # the newest file of a name counts: a sample that was tried again
            entries = {one.filename: one for one in archive.infolist()}
            samples = [
                one
                for name, one in entries.items()
                if name.startswith(SAMPLES) and name.endswith(".json")
            ]
            if not samples:
                raise ValueError(f"{path}: no log of Inspect: it holds no {SAMPLES}*.json")
            for number, entry in enumerate(samples, 1):
                yield number, _sample(archive, entry), size * number // len(samples)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a whole .eval file ({error})") from error


def _sample(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> dict[str, Any] | RowError:
    """A sample without its events, which nothing here reads."""
    if entry.file_size > MAX_LINE:
        return RowError(f"{entry.filename} is larger than {MAX_LINE >> 20} MiB")
    try:
        content = _zstd(archive, entry) if entry.compress_type == _ZSTD else archive.read(entry)
        row = json.loads(content.decode("utf-8"))
    except NotImplementedError:
        return RowError(f"{entry.filename} is compressed by zstd: pip install pyarrow reads it")
    except (ValueError, RecursionError, EOFError, zipfile.BadZipFile) as error:
        return RowError(f"{entry.filename} is not JSON ({error})")
    if not isinstance(row, dict):
        return RowError(f"{entry.filename} is not a JSON object")
    return {name: value for name, value in row.items() if name not in ("events", "attachments")}


def _zstd(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A file that zstd compressed, which Python's zipfile cannot read before 3.14."""
    try:
        import pyarrow
    except ImportError as error:
        raise NotImplementedError from error
    file = archive.fp
    assert file is not None
    file.seek(entry.header_offset)
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError("it breaks off")
    name, more = _HEAD.unpack(head)
    file.seek(name + more, 1)
    packed = pyarrow.BufferReader(file.read(entry.compress_size))
    try:
        return pyarrow.CompressedInputStream(packed, "zstd").read(entry.file_size)
    except OSError as error:
        raise EOFError(str(error)) from error
