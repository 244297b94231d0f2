"""Reference answers of another file: joined by id, or by the problem, or named as missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign.files import ONE, RIGHT, Row, batch, jsonl

from slm_math.data.json_lines import RowError
from slm_math.foreign.joining import JOINED, Golds


def golds(tmp_path: Path, *rows: Row) -> Golds:
    return Golds(jsonl(tmp_path / "golds.jsonl", list(rows)))


def test_rows_are_joined_by_id_before_their_problem(tmp_path: Path) -> None:
    read = golds(
        tmp_path, {"id": 1, "problem": ONE, "answer": "12"}, {"id": 2, "answer": 13, "level": 5}
    )
    by_number = read.joined(batch("1", RIGHT))
    assert isinstance(by_number, dict)
    assert by_number[JOINED] == {"gold": "12", "problem": ONE}
    other = read.joined({"custom_id": "2", "prompt": ONE})
    assert isinstance(other, dict)
    assert other[JOINED] == {"gold": 13, "problem": "", "level": 5}


def test_rows_without_an_id_are_joined_by_their_problem(tmp_path: Path) -> None:
    read = golds(tmp_path, {"question": ONE, "answer": "12"})
    row = {"prompt": [{"role": "user", "content": f" {ONE}\n"}], "completion": RIGHT}
    found = read.joined(json.dumps(row).encode())
    assert isinstance(found, dict)
    assert found[JOINED]["gold"] == "12"


def test_what_belongs_to_no_reference_is_named(tmp_path: Path) -> None:
    read = golds(tmp_path, {"id": "a", "answer": "12"})
    for row, why in (
        ({"custom_id": "b"}, r"no reference answer in golds.jsonl: its custom_id is 'b'"),
        ({"response": "5"}, "no reference answer in golds.jsonl: it has no id"),
        (b"{", "not JSON"),
    ):
        found = read.joined(row)
        assert isinstance(found, RowError)
        assert why in str(found)


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"golds\.jsonl, line 2: the id 'a' is that of another"):
        golds(tmp_path, {"id": "a", "answer": "12"}, {"id": "a", "answer": "13"})
    with pytest.raises(ValueError, match=r"golds\.jsonl, line 1: no reference answer"):
        golds(tmp_path, {"id": "a", "text": "12"})
