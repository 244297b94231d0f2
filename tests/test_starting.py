"""What a command says of its start."""

import pytest

from slm_math.starting import ended, start, starting


def test_only_a_command_that_starts_says_what_it_does(capfd: pytest.CaptureFixture[str]) -> None:
    starting("reading")
    start("fit")
    starting("loading")
    ended()
    starting("reading again")
    assert capfd.readouterr().err == "fit: loading\n"
