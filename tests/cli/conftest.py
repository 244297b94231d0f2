"""Small data, sandboxes that start quickly, and how tests run `slm-math grade`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli.evaluating import data_at

from slm_math.cli import run


@pytest.fixture(scope="module", autouse=True)
def light(light_programs: None) -> None:
    """All of these tests have them."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_at(tmp_path_factory.mktemp("data"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs `slm-math grade` and gives its exit status and all that it says."""

    def grade(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        status = 0
        try:
            run(["grade", *map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        streams = capsys.readouterr()
        return status, " ".join((streams.out + streams.err).replace("│", " ").split())

    return grade
