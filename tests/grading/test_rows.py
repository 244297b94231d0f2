"""Files of completions in every format that people have, and what is no such file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from growth import grows_linearly

from slm_math.cli import run
from slm_math.data.formats import _cell
from slm_math.data.json_lines import RowError, parse
from slm_math.grading.rows import rows

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "2 and 3, in all?", "response": "so \\boxed{5}", "answer": "5"},
    {"id": "b", "question": "Twice 4?", "response": "It is\n\n#### 9", "answer": "8"},
    {
        "id": "c",
        "question": 'The "half" of 6, in km?',
        "response": "The answer is 3,",
        "answer": "3",
    },
]


def _csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, rows[0], delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode()


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "x.jsonl": _lines,
    "x.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "array.jsonl": lambda rows: json.dumps(rows).encode(),
    "lines.json": _lines,
    "x.csv": _csv,
    "marked.csv": lambda rows: b"\xef\xbb\xbf" + _csv(rows),
    "semicolon.csv": lambda rows: _csv(rows, ";"),
    "x.tsv": lambda rows: _csv(rows, "\t"),
    "x.parquet": _parquet,
    "parquet.jsonl": _parquet,
    "x.jsonl.gz": lambda rows: gzip.compress(_lines(rows)),
    "x.json.gz": lambda rows: gzip.compress(json.dumps(rows).encode()),
    "x.csv.gz": lambda rows: gzip.compress(_csv(rows)),
    "gzip.jsonl": lambda rows: gzip.compress(_lines(rows)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(FORMATS[name](ROWS))
    read = list(rows(file))
    assert [parse(line) for _, line, _ in read] == ROWS
    assert [number for number, _, _ in read] == [1, 2, 3]
    ends = [end for _, _, end in read]
    assert ends == sorted(ends)
    assert 0 < ends[-1] <= file.stat().st_size


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.json", "x.jsonl.gz"])
def test_every_format_is_graded(name: str, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / name
    file.write_bytes(FORMATS[name](ROWS))
    run(["grade", str(file)])
    assert "2 of 3 correct: 66.7 %" in capsys.readouterr().out


OTHERS = {
    "x.zip": (b"PK\x03\x04" + bytes(40), "ZIP archive"),
    "x.jsonl": (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd"),
    "x.png": (b"\x89PNG\r\n\x1a\n" + bytes(40), "a picture"),
    "x.pkl": (b"\x80\x04\x95" + bytes(40), "pickle"),
    "x.parquet": (b'{"response": "5", "answer": "5"}', "no Parquet file"),
    "x.bin": (b"abc\x00def", "binary data"),
    "x.yaml": (b"response: 5\nanswer: 5\n", "unknown format"),
    "y.jsonl": ("{}".encode("utf-16"), "UTF-16"),
    "y.json": (b'[{"response": "5"', "not JSON"),
    "z.gz": (gzip.compress(b"{}")[:10] + b"xxxxxxxx", "not a whole gzip file"),
    "y.gz": (gzip.compress(b'{"response": "5"}' * 99)[:-9], "not a whole gzip file"),
    "y.parquet": (_parquet(ROWS)[:-30], "not a whole Parquet file"),
    "z.csv": (b'response,answer\n"5,5\n', "not CSV"),
    "z.jsonl": (b"response: 5\n" * 160, "no row can be read (line 1: not JSON"),
    "twice.csv": (b"answer,response,response\n5,5,6\n", "names 'response' twice"),
    "lines.csv": (b'{"response": "5", "answer": "5"}\n', "is JSON, not CSV"),
    "empty.csv": (b"response,answer\n", "is empty"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_format_is_named_in_one_line(name: str, tmp_path: Path, capsys: Any) -> None:
    content, said = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        run(["grade", str(tmp_path / name)])
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert said in output.err
    assert name in output.err
    assert len(output.err.strip().splitlines()) == 1
    assert "0 of 0" not in output.out
    assert not (tmp_path / f"{name}.graded.jsonl").exists()


def test_cells_of_a_table_may_hold_lists_and_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text('response,answer,choices\n"[""5"", ""6""]",6,\n"[1, 2]",5,x\nshort\n')
    (_, first, _), (_, second, _), (_, third, _) = rows(file)
    assert parse(first) == {"response": ["5", "6"], "answer": "6", "choices": None}
    assert parse(second)["response"] == "[1, 2]"  # an answer, which lists two numbers
    with pytest.raises(RowError, match="has 1 cells, the header 3"):
        parse(third)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("""['so it is 5', "isn't 6"]""", ["so it is 5", "isn't 6"]),
        (r"""['a\nb', '\\boxed{5}', 'it\'s']""", ["a\nb", r"\boxed{5}", "it's"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("['a', 5]", "['a', 5]"),
        ("[1, 2]", "[1, 2]"),
        ("['a'", "['a'"),
    ],
)
def test_lists_of_texts_as_python_prints_them_are_lists(
    cell: str, expected: Any, tmp_path: Path
) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(_csv([{"response": cell, "answer": "5"}]))
    [(_, line, _)] = rows(file)
    assert parse(line)["response"] == expected


def test_long_cells_that_look_like_lists_take_linear_time() -> None:
    for piece in ("'a' ", "'a", "\\", "' '", '"a",'):
        assert grows_linearly(lambda size, p=piece: _cell("['" + p * (size // len(p))), 25_000)


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    reply = "so " * 100_000 + "#### 5"
    file = tmp_path / "x.csv"
    file.write_bytes(_csv([{"response": reply, "answer": "5"}]))
    [(_, line, _)] = rows(file)
    assert parse(line)["response"] == reply
