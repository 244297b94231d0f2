"""The rows of a file in any usual format: of problems, chats or saved completions.

JSON lines, JSON arrays, CSV, TSV and Parquet are read, and what gzip compressed of them. The
content decides, not only the name: a file of another format is refused with its format's name.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from slm_math.data.json_lines import MAX_LINE, Line, RowError, lines_of
from slm_math.visible import visible

Records = Iterator[tuple[int, Line | dict[str, Any], int]]
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
KNOWN = "JSON lines, JSON arrays, CSV, TSV, Parquet, and .gz of these"
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
# the first bytes of formats that people pass by mistake, with what to do about them
OTHERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel file; unpack it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"\x80\x04": "a Python pickle, which could run code; save it as JSON lines",
    b"\x80\x05": "a Python pickle, which could run code; save it as JSON lines",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"SQLite": "an SQLite database",
}
# ['a', "b"], or as numpy prints it, ['a' "b"]
_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""", re.DOTALL)
_PRINTED = re.compile(rf"\[(?:\s*+(?:{_ITEM.pattern}),?)++\s*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
# under what names an object may hold the rows of a file
CONTAINERS = ("data", "rows", "examples", "problems", "questions", "items", "instances")
MAX_WHOLE = 1 << 30  # bytes of a file that is one JSON value, unpacked
HEAD = 4096  # bytes from which the format is told


def is_data_file(path: Path) -> bool:
    """Whether a file has the name of a known format, compressed or not."""
    return path.is_file() and path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


def records(path: Path) -> Records:
    """(number, content, position in the file in bytes) of every row.

    The content is the line of a file of JSON lines, else an object; an error stands in the place of
    a row that cannot be had. Rows are numbered from 1: by lines in JSON lines, else one by one. The
    position is where the row ends, or about there, and serves to show the progress. Raises
    ValueError for a file that has another format, or breaks off.
    """
    with path.open("rb") as raw:
        head = raw.read(HEAD)
        raw.seek(0)
        if head.startswith(GZIP):
            with gzip.open(raw) as unpacked:
                inside = Path(path.name.removesuffix(".gz"))
                try:
                    head = unpacked.read(HEAD)
                    unpacked.seek(0)
                    content = _read(path, inside.suffix, head, cast(IO[bytes], unpacked))
                    for number, row, _ in content:
                        yield number, row, raw.tell()
                except (EOFError, OSError, zlib.error) as error:
                    raise ValueError(f"{path}: not a whole gzip file ({error})") from error
        else:
            yield from _read(path, path.suffix, head, raw)


def _read(path: Path, suffix: str, head: bytes, file: IO[bytes]) -> Records:
    if head.startswith(PARQUET):
        return _parquet(path, file)
    other = next((kind for magic, kind in OTHERS.items() if head.startswith(magic)), None)
    if other is None and b"\0" in head:
        other = "binary data"
    if other is not None or suffix.lower() == ".parquet":
        raise ValueError(
            f"{path}: unknown format ({other or 'no Parquet file, whatever its name says'}); known "
            f"are {KNOWN}"
        )
    if suffix.lower() in (".csv", ".tsv"):
        if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b'{"', b'[{"')):
            raise ValueError(f"{path}: is JSON, not CSV: rename it to .jsonl or .json")
        return _table(path, head, file, "\t" if suffix.lower() == ".tsv" else None)
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if (first == b"[" and _is_array(head)) or (suffix == ".json" and _is_object(first, file)):
        return _whole(path, file)
    if first and first != b"{" and suffix.lower() not in (".jsonl", ".ndjson"):
        raise ValueError(f"{path}: unknown format; known are {KNOWN}")
    return lines_of(file)


def _is_array(head: bytes) -> bool:
    """Whether a file that begins with a bracket is one array, not a list on each line."""
    first = head.split(b"\n", 1)[0].strip()
    try:
        return not isinstance(json.loads(first), list) or b"\n" not in head.strip()
    except (ValueError, RecursionError):
        return True


def _is_object(first: bytes, file: IO[bytes]) -> bool:
    """Whether a `.json` file holds one object, not one on each line."""
    line = file.readline(MAX_LINE).rstrip()
    alone = not file.read(1)
    file.seek(0)
    return first == b"{" and (alone or not line.endswith(b"}"))


def _whole(path: Path, file: IO[bytes]) -> Records:
    """The rows of a file that is one JSON array, or one object: its rows, or one row itself."""
    content = file.read(MAX_WHOLE + 1)
    if len(content) > MAX_WHOLE:
        raise ValueError(
            f"{path}: one JSON value of more than {MAX_WHOLE >> 20} MiB, which takes a multiple of "
            "that in memory: save it as JSON lines"
        )
    try:
        items = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    items = _inside(items) if isinstance(items, dict) else items
    for number, item in enumerate(items, 1):
        row = item if isinstance(item, dict) else RowError("not a JSON object")
        yield number, row, len(content) * number // len(items)


def _inside(content: dict[str, Any]) -> list[Any]:
    """The rows in an object: `{"version": 1, "data": [...]}`; the object if it is a row itself."""
    lists = [content[name] for name in CONTAINERS if isinstance(content.get(name), list)]
    return lists[0] if len(lists) == 1 and lists[0] else [content]


def _table(path: Path, head: bytes, file: IO[bytes], delimiter: str | None) -> Records:
    """The rows under a header. An empty cell is null; a cell that holds a JSON list of texts or
    objects (samples, choices, a chat) is that list.
    """
    csv.field_size_limit(MAX_LINE)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    if delimiter is None:
        header = head.split(b"\n", 1)[0]
        delimiter = ";" if header.count(b";") > header.count(b",") else ","
    table = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = next(table, [])
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{path}: the header names {visible(twice[:60], '')!r} twice")
        for number, cells in enumerate(table, 1):
            if not cells:
                continue
            if len(cells) != len(names):
                wrong = f"has {len(cells)} cells, the header {len(names)}"
                yield number, RowError(wrong), file.tell()
            else:
                yield number, dict(zip(names, map(_cell, cells), strict=True)), file.tell()
    except csv.Error as error:
        raise ValueError(f"{path}, line {table.line_num}: not CSV ({error})") from error
    except UnicodeDecodeError as error:
        file.seek(0)
        line = next(n for n, content in enumerate(file, 1) if not _is_text(content))
        raise ValueError(f"{path}, line {line}: not UTF-8 text ({error.reason})") from error
    finally:
        text.detach()  # the file is closed by who opened it


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cell(text: str) -> Any:
    """The value of a cell; a list of texts as Python prints it is one, too: pandas writes so."""
    if text.startswith(('["', "[{", '[["')):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    if text.startswith(("['", '["')) and _PRINTED.fullmatch(text):
        return [_unescaped(item[1:-1]) for item in _ITEM.findall(text)]
    return text or None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), text)


def _parquet(path: Path, file: IO[bytes]) -> Records:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from error
    size = path.stat().st_size
    try:
        table = pyarrow.parquet.ParquetFile(file)
        total, number = table.metadata.num_rows, 0
        for batch in table.iter_batches(256):
            for row in batch.to_pylist():
                number += 1
                yield number, row, size * number // total
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file ({error})") from error
