"""`slm-math doctor` on this machine, and on one where programs cannot be confined."""

import platform
import subprocess
import sys

import pytest

from slm_math.doctor import doctor


def test_it_says_what_works_here():
    done = subprocess.run(
        [sys.executable, "-m", "slm_math", "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
        assert word in done.stdout


def test_without_walls_it_names_the_ways_out_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(SystemExit) as end:
        doctor()
    assert end.value.code == 1
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "this is Darwin" in shown
    assert "RemoteSandbox" in shown
