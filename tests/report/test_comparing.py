"""Which runs of a report are compared with which."""

from __future__ import annotations

from pathlib import Path

from report.runs import record, write

from slm_math.report.comparing import comparison_table
from slm_math.report.load import load


def test_an_agent_is_also_compared_with_itself_in_an_earlier_run(tmp_path: Path) -> None:
    right = {"sft/one": 2, "sft/two": 4, "grpo/one": 5, "grpo/two": 6}
    for path, count in right.items():
        write(tmp_path / path, [record(i, i < count) for i in range(8)])
    runs = load([str(tmp_path / "sft"), str(tmp_path / "grpo")]).runs
    table = comparison_table(runs, "Comparison")
    pairs = [(row[0], row[1], int(row[6]), int(row[7])) for row in table.rows]  # gained, lost
    assert pairs == [
        ("sft/two", "sft/one", 2, 0),
        ("grpo/one", "sft/one", 3, 0),
        ("grpo/two", "sft/one", 4, 0),
        ("grpo/two", "sft/two", 2, 0),
    ]


def test_a_single_complete_run_is_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "a", [record(0, True)])
    write(tmp_path / "b", [record(0, True)], partial=True)
    runs = load([str(tmp_path / "a"), str(tmp_path / "b")]).runs
    table = comparison_table(runs, "Comparison")
    assert table.rows == ()
    assert "nothing to compare" in table.note
