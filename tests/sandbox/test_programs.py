"""Typical programs (programs/*.yaml) give the same results as in a plain interpreter."""

from pathlib import Path

import pytest
import yaml

from slm_math.sandbox import Sandbox

PROGRAMS = [
    program
    for path in sorted(Path(__file__).with_name("programs").glob("*.yaml"))
    for program in yaml.safe_load(path.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def sandbox():
    # tier C leaves the least to a program
    with Sandbox(workers=1, cpu_seconds=3, tier="C") as box:
        yield box


@pytest.mark.parametrize("program", PROGRAMS, ids=[program["name"] for program in PROGRAMS])
def test_does_what_a_plain_interpreter_does(sandbox, program) -> None:
    result = sandbox.run(program["code"])
    if "error_type" in program:
        assert not result.ok
        assert (result.error_type, result.error_line) == (
            program["error_type"],
            program["error_line"],
        )
    else:
        assert result.ok, result.error
        assert (result.stdout, result.value) == (
            program.get("stdout", ""),
            program.get("value", ""),
        )
