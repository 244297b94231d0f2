"""Replies and outputs of programs on a terminal: nothing in them has an effect there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from slm_math.cli import fail
from slm_math.evaluation.command import _print_results
from slm_math.evaluation.live import Live
from slm_math.evaluation.plain import cell, plain, print_line
from slm_math.evaluation.table import results_table
from slm_math.metrics.summary import by_tag
from slm_math.modules.training_warnings import TrainingWarnings
from slm_math.records.encoding import json_line, to_json
from slm_math.records.record import Record
from slm_math.sandbox import Sandbox
from slm_math.visible import visible

# a title, a cleared screen, a bell, a null, a control of the upper set, reversed reading, a link,
# half of a pair of surrogates; markup and an emoji of rich
HOSTILE = (
    "\x1b]0;owned\x07 \x1b[2J\x1b[31m \a\0\b\r \x9b31m \u202eevil\u2066 \x1b]8;;http://x\x1b\\"
    "\ud83d [bold red]markup[/] :smiley:"
)
FORBIDDEN = "\x1b\a\0\b\x9b\u202e\u2066"


def terminal(width: int = 400) -> tuple[Console, io.StringIO]:
    """A console that believes to be a terminal, and what it writes; colors are off, so that all
    escapes come from the text.
    """
    out = io.StringIO()
    return Console(file=out, force_terminal=True, color_system=None, width=width), out


def harmless(shown: str) -> bool:
    return not set(FORBIDDEN) & set(shown) and "[bold red]markup[/] :smiley:" in shown


def test_control_characters_become_escapes_and_all_else_stays() -> None:
    text = "Größe\u00a0√2, ∑ 數學\u3000１２: 10 €\tok\n"
    assert visible(text) == text
    assert visible("\x1b[2J\x07\0\x85\u202e\ud800") == r"\x1b[2J\x07\x00\x85\u202e\ud800"
    assert plain("two\nlines") == r"two\nlines"


def test_lines_and_cells_of_tables_are_harmless() -> None:
    console, out = terminal()
    print_line(console, HOSTILE)
    console.print(cell(HOSTILE, 300))
    first, second = out.getvalue().splitlines()
    assert harmless(first)
    assert harmless(second)


def test_names_and_tags_in_tables_of_results_are_harmless() -> None:
    console, out = terminal()
    records = [Record(f"p/{n}", 0, tags={"kind": HOSTILE}) for n in range(2)]
    console.print(results_table(HOSTILE, by_tag(records, "kind")))
    assert harmless(out.getvalue())
    assert out.getvalue().count("owned") == 2


def test_the_reason_why_workflows_failed_is_harmless(tmp_path: Path) -> None:
    record = Record("p/1", 0, error=f"the endpoint said {HOSTILE}")
    folder = tmp_path / "single"
    folder.mkdir()
    (folder / "records.jsonl").write_bytes(json_line(to_json(record)))
    console, out = terminal()
    _print_results(console, "t", out=tmp_path, names=["single"], by=None)
    assert harmless(out.getvalue())
    assert "the endpoint said" in out.getvalue()


def test_lines_of_the_live_table_are_harmless() -> None:
    out = io.StringIO()
    with Live(Console(file=out, width=400), HOSTILE, seconds=0.0) as live:
        live.progress(HOSTILE)([Record("p/1", 0)], 2)
    assert harmless(out.getvalue())


def test_warnings_of_training_are_harmless() -> None:
    rewards = {"solver": 0.0}
    broken = Record("p/1", 0, error=HOSTILE, rewards=rewards)
    unscored = Record("p/2", 0, reward_errors={"solver": {"judge": HOSTILE}}, rewards=rewards)
    lines = [*TrainingWarnings(["solver"]).of_step(3, [broken, unscored], [])]
    assert sum("owned" in line for line in lines) == 2
    assert all(harmless(line) for line in lines if "owned" in line)


def test_errors_of_commands_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(f"row 3: unknown answer type {HOSTILE}")
    assert harmless(capsys.readouterr().err)


def test_a_traceback_that_quotes_a_reply_is_harmless() -> None:
    code = (
        "import slm_math.cli as cli, slm_math.__main__ as entry\n"
        f"def run():\n    raise RuntimeError({HOSTILE!r})\n"
        "cli.run = run\nentry.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    shown = done.stderr.decode()
    assert done.returncode == 1
    assert "Traceback" in shown
    last = shown.splitlines()[-1]
    assert harmless(last)


def test_output_of_a_program_is_kept_as_it_is_and_shown_harmless(monkeypatch: Any) -> None:
    from sandbox.light import lighten

    lighten(monkeypatch)
    printable = HOSTILE.replace("\ud83d", "")
    with Sandbox(workers=1, wall_seconds=60) as sandbox:
        result = sandbox.run(f"print({printable!r})\nraise ValueError({printable!r})")
    assert result.stdout == printable + "\n"
    written = json.dumps({"stdout": result.stdout})
    assert not set(FORBIDDEN) & set(written)
    assert json.loads(written)["stdout"] == result.stdout
    assert harmless(visible(result.stdout))
    assert not set(FORBIDDEN) & set(result.error)
