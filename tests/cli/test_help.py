"""What `slm-math --help` and the help of each command begin with."""

import shlex
import sys

import pytest

from slm_math.cli import run
from slm_math.command_table import COMMANDS, EXAMPLES, GROUPS, TRAINING, example, usage
from slm_math.commands import download
from slm_math.early import refuse
from slm_math.everyday import EVERYDAY
from slm_math.option_names import option_names
from slm_math.parsing import RENAMED, command_parser
from slm_math.shipped import config_file


def words(command: str) -> list[str]:
    return shlex.split(example(command))[1:]


def test_the_first_help_fits_a_terminal_and_names_every_command_once() -> None:
    lines = usage().splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines if line.startswith("  ")]
    shown = [name for name in shown if name != "slm-math"]  # of the first commands
    assert sorted(shown) == sorted([*TRAINING, *COMMANDS])
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(shown)


def test_every_command_has_an_example_that_fits_a_terminal() -> None:
    assert EXAMPLES.keys() == TRAINING.keys() | COMMANDS.keys()
    assert all(len(f"example: {example(name)}") <= 80 for name in EXAMPLES)


@pytest.mark.parametrize("command", TRAINING)
def test_nothing_in_an_example_of_training_is_misspelled(command: str) -> None:
    refuse(command, [*words(command)[1:], "--print_config"], RENAMED)


@pytest.mark.parametrize("command", [*sorted(COMMANDS.keys() - {"download"}), "fit"])
def test_example_is_understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run([*words(command), "--print_config"])
    assert stop.value.code in (0, None), capsys.readouterr().err


def test_example_of_download_names_a_config() -> None:
    """It reads configs as data, so it has no --print_config."""
    command, option, name = words("download")
    parsed = command_parser(download, command).parse_args([option, name])
    assert config_file(parsed.config).is_file()


@pytest.mark.parametrize("command", ["doctor", "results"])
def test_help_begins_with_the_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run([command, "--help"])
    first, empty, form, *rest = capsys.readouterr().out.splitlines()
    assert first == f"example: {example(command)}"
    assert (empty, form.split()[:3]) == ("", ["usage:", "slm-math", command])
    assert any("--config" in line for line in rest)


@pytest.mark.parametrize("command", EVERYDAY)
def test_the_help_of_many_options_is_short_and_fits_a_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "slm_math.training", None)  # nothing slow is imported
    run([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"example: {example(command)}"
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert f"  slm-math {command} --help all" in "\n".join(lines)


@pytest.mark.parametrize("command", EVERYDAY)
def test_everyday_options_exist(command: str) -> None:
    classes = {("source",): {"Table"}, ("data", "source"): {"Table"}, ("agents", "NAME"): set()}
    known = option_names(command, classes)
    many = {f"{name}.NAME" for name in known} | {f"{name}.default" for name in known}
    names = {name.removesuffix("+") for name in EVERYDAY[command]}
    assert names <= known.keys() | many


def test_all_options_fit_a_terminal_where_they_can_be_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        run(["fit", "--help", "all"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 300
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []


def test_the_example_comes_before_what_is_slow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is not even imported."""
    monkeypatch.setitem(COMMANDS, "eval", ("slm_math.nowhere:evaluate", ""))
    with pytest.raises(ModuleNotFoundError):
        run(["eval", "--help", "all"])
    assert capsys.readouterr().out.startswith("example: slm-math eval --config eval/gsm8k")
