"""`slm-math doctor` on this machine, and on one where programs cannot be confined."""

import platform

import pytest

from slm_math.cli import run
from slm_math.doctor import doctor


def test_it_says_what_works_here(capsys):
    run(["doctor"])
    shown = capsys.readouterr().out
    for word in (
        "tier A",
        "tier B",
        "tier C",
        "sandbox",
        "grader",
        "packages",
        "torch",
        "GPU",
        "vllm",
        "memory",
        "math500",
    ):
        assert word in shown


def test_without_walls_it_names_the_ways_out_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SystemExit) as end:
        doctor()
    assert end.value.code == 1
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "this is Darwin" in shown
    assert "RemoteSandbox" in shown
