"""Records are read from their file when they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slm_math.records.encoding import json_line
from slm_math.records.names import Names
from slm_math.records.record import Record
from slm_math.records.stored import StoredRecords


def made(number: int, **more: object) -> Record:
    return replace(Record(f'problem "{number}"', number % 3, problem="é\n" * number), **more)


def written(path: Path, *records: Record, end: bytes = b"") -> StoredRecords:
    path.write_bytes(b"".join(map(json_line, records)) + end)
    return StoredRecords(path)


def test_the_newest_record_of_a_sample_counts_where_the_first_one_was(tmp_path: Path) -> None:
    again = made(1, answer="2")
    stored = written(tmp_path / "a", made(0), made(1), made(2), again, end=b'{"schema": 2')
    assert list(stored) == stored[:] == [made(0), again, made(2)]
    assert (len(stored), stored.lines, stored[-1]) == (3, 4, made(2))
    assert made(1).key in stored
    assert ("problem", 7) not in stored


def test_lines_of_other_programs_are_found_too(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('{"sample": 1, "id": "x"}\r\n{"id": "x", "sample": 1, "answer": "7"}\n')
    assert [record.answer for record in StoredRecords(path)] == ["7"]


@pytest.mark.parametrize("bad", [b"nonsense\n", b'{"schema": 2, "id": "a", "sample": 0, "x": \n'])
def test_a_bad_line_is_named(tmp_path: Path, bad: bytes) -> None:
    with pytest.raises(ValueError, match="a, line 2: not an evaluation record"):
        list(written(tmp_path / "a", made(0), end=bad))


def test_what_is_appended_and_what_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a"
    stored = written(path, made(0), made(1, error="down"), made(2))
    whole = stored.where(lambda record: not record.broken)
    assert list(whole) == [made(0), made(2)]
    line = json_line(made(1))
    with path.open("ab") as file:
        file.write(line)
    whole.written(made(1), len(line))
    assert list(whole) == [made(0), made(2), made(1)]
    whole.take(stored, made(1).key)
    assert whole[2] == made(1, error="down")


def test_a_file_that_was_replaced_is_still_read(tmp_path: Path) -> None:
    stored = written(tmp_path / "a", made(0), made(1))
    (tmp_path / "b").write_text("other\n" * 100)
    (tmp_path / "b").replace(tmp_path / "a")
    assert list(stored) == [made(0), made(1)]


def test_names_are_numbered_in_the_order_in_which_they_come() -> None:
    texts = [f"text {n * n % 1000}" for n in range(40_000)] + ["", "é", "\ud800"]
    names, wanted = Names(), dict[str, int]()
    for text in texts:
        assert names.number(text) == wanted.setdefault(text, len(wanted))
    assert list(names) == list(wanted)
    assert (names.get("é"), names.get("ê")) == (wanted["é"], None)
    other = Names()
    for text in reversed(list(wanted)):
        other.number(text)
    assert (names.digests() == other.digests()).all()


def test_records_without_keys_do_not_say_that_one_is_missing(tmp_path: Path) -> None:
    written(tmp_path / "a", made(0), made(1))
    stored = StoredRecords(tmp_path / "a", by_key=False)
    assert list(stored) == [made(0), made(1)]
    with pytest.raises(TypeError, match="read without their keys"):
        made(0).key in stored  # noqa: B015
    assert made(0).key in stored.where(lambda record: record.sample == 0)
