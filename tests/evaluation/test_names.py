"""Names and paths in tables are broken behind their separators, not inside of words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from slm_math.evaluation.plain import as_name


def shown(name: str, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    table = Table("run", "accuracy", box=None)
    table.add_row(as_name(name), "84.1 [77.0, 89.2]")
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()[1:]
    return [line.split("  ")[0].strip().partition(" ")[0] for line in lines]


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("solver_verifier", 60, ["solver_verifier"]),
        ("solver_verifier", 31, ["solver_", "verifier"]),
        ("runs/grpo-long/eval", 31, ["runs/grpo-", "long/eval"]),
        ("[red]x[/red]_y", 60, ["[red]x[/red]_y"]),
    ],
)
def test_a_name_is_broken_behind_its_separators(name: str, width: int, lines: list[str]) -> None:
    assert [line for line in shown(name, width) if line] == lines


def test_a_word_that_is_longer_than_the_line_is_shown_whole() -> None:
    assert "".join(shown("x" * 100, 60)) == "x" * 100
