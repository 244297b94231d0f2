"""Every command of docs/solve.md is one that the command line understands."""

from __future__ import annotations

import shlex
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from slm_math.cli import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "solve.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[1:] for line in PAGE.splitlines() if line.startswith("    slm-math ")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_commands_of_the_page_are_understood(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run([*command, *(["--out=x"] if command[0] == "eval" else []), "--print_config"])
    streams = capsys.readouterr()
    assert stop.value.code in (0, None), streams.err
    config = yaml.safe_load(streams.out)
    values = dict(pairwise(command))
    if "--agent" in values:
        assert config["agent"]["class_path"] == f"slm_math.agents.{values['--agent']}"
    if command[0] == "solve" and "--gold" in values:
        assert config["gold"] == values["--gold"]
        assert config["problem"] == command[1]


def test_options_of_the_page_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["solve", "--help", "all"], ["serve-agent", "--help"]):
        with suppress(SystemExit):
            run(arguments)
    known = capsys.readouterr().out
    words = {word for line in PAGE.splitlines() if "|" in line for word in line.split("`")}
    options = {word.split()[0] for word in words if word.startswith("--")}
    assert options
    assert all(option in known for option in options)
