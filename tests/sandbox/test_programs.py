"""Typical programs (programs/*.yaml) give the same results as in a plain interpreter: by default
every third one of each file, the others with `-m slow`.
"""

from pathlib import Path

import pytest
import yaml
from cases import some

from slm_math.sandbox import Sandbox

FILES = sorted(Path(__file__).with_name("programs").glob("*.yaml"))
PROGRAMS = [yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) for path in FILES]
NAMED = {program["name"]: program for file in PROGRAMS for program in file}
FAST = [program["name"] for file in PROGRAMS for program in file[::3]]


@pytest.fixture(scope="module")
def sandbox():
    # tier C leaves the least to a program
    with Sandbox(workers=1, cpu_seconds=3, tier="C") as box:
        yield box


@pytest.mark.parametrize("name", some(NAMED, FAST))
def test_does_what_a_plain_interpreter_does(sandbox, name: str) -> None:
    program = NAMED[name]
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
