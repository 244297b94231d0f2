"""What a command writes does not replace what it reads, nor a file of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.evaluating import ask

from slm_math.claims.archive import archive
from slm_math.claims.command import claim
from slm_math.grading.convert import convert
from slm_math.records.outputs import WRITTEN, check_output
from slm_math.report import report
from slm_math.synthesis.twins import twins


def test_an_input_and_files_of_runs_are_not_written_over(tmp_path: Path) -> None:
    given, records, empty = (tmp_path / name for name in ("p.jsonl", "records.jsonl", "r.html"))
    for file in (given, records):
        file.write_text("{}\n")
    empty.touch()
    with pytest.raises(ValueError, match="is the input itself, which would be lost"):
        check_output("twins", tmp_path / "." / "p.jsonl", [given])
    with pytest.raises(ValueError, match="is a file of a run"):
        check_output("grade", records)
    check_output("report", empty, [given])
    check_output("report", "/dev/null", [given])
    check_output("grade", tmp_path / "new.jsonl", [given])


@pytest.mark.parametrize("command", WRITTEN)
def test_a_file_of_something_else_is_not_written_over(command: str, tmp_path: Path) -> None:
    for name, text in {"notes.md": "mine", "row.jsonl": '{"id": "1", "line": 2}\n'}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"holds something else than .*: choose another --out"):
            check_output(command, tmp_path / name)


ROWS = """{"id": 1, "problem": "Tom has 12 pens and buys 30. How many?", "answer": "42", \
"completion": "It is \\\\boxed{42}.", "program": "print(12 + 30)"}
"""


@pytest.mark.parametrize("command", sorted(WRITTEN.keys() - {"claim"}))
def test_what_a_command_wrote_it_writes_again(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    rows, out, runs = tmp_path / "rows.jsonl", tmp_path / "out", tmp_path / "runs"
    for folder in (runs, tmp_path / "again"):
        assert ask(capsys, "grade", rows, "--records", folder)[0] == 0
    line = {
        "grade": (rows,),
        "overlap": (rows, rows),
        "check-data": (rows, "--against", rows),
        "twins": (rows,),
        "compare": (runs, tmp_path / "again"),
    }.get(command, (runs,))
    for _ in range(2):
        status, _, error = ask(capsys, command, *line, "--out", out)
        assert status == (command == "check-data"), error  # it finds the same problem in both
        assert out.stat().st_size


def test_a_claim_may_be_made_again(tmp_path: Path) -> None:
    file = tmp_path / "claim.zip"
    file.write_bytes(archive({"claim.json": b"{}", "README.md": b"What is claimed."}))
    check_output("claim", file)


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
