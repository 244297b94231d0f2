"""What a command writes does not replace what it reads, nor a file of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from slm_math.claims.command import claim
from slm_math.grading.convert import convert
from slm_math.records.outputs import check_output
from slm_math.report import report
from slm_math.synthesis.twins import twins


def test_an_input_and_files_of_runs_are_not_written_over(tmp_path: Path) -> None:
    given, records, old = (tmp_path / name for name in ("p.jsonl", "records.jsonl", "r.html"))
    for file in (given, records, old):
        file.write_text("{}\n")
    with pytest.raises(ValueError, match="is the input itself, which would be lost"):
        check_output(tmp_path / "." / "p.jsonl", [given])
    with pytest.raises(ValueError, match="is a file of a run"):
        check_output(records)
    check_output(old, [given])
    check_output(tmp_path / "new.jsonl", [given])


def test_commands_that_write_refuse(tmp_path: Path) -> None:
    given = tmp_path / "p.jsonl"
    given.write_text('{"problem": "1 + 1?", "answer": "2"}\n')
    records = tmp_path / "records.jsonl"
    records.write_text("kept")
    with pytest.raises(ValueError, match="is the input itself"):
        twins(str(given), out=str(given))
    for write in (report, claim):
        with pytest.raises(ValueError, match=r"\w"):  # whichever comes first
            write([str(tmp_path)], out=str(records))
    with pytest.raises(ValueError, match=r"\w"):  # whichever comes first
        convert(str(tmp_path), out=str(records))
    assert records.read_text() == "kept"
    assert given.read_text().startswith("{")
