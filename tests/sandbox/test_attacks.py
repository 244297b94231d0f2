"""The attacks of attacks/*.yaml, on every tier that this machine has, as root and as an ordinary user.

By default one program of each attack; `-m slow` runs all of them, those that cost a whole limit included.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox import ordinary_user

SCRIPT = Path(__file__).with_name("attack.py")
LIMITS = ["--cpu-seconds=0.3", "--wall-seconds=1.5", "--memory-mb=256", "--workers=1"]
USERS = ["root", "user"]


def attack(tier: str, user: str, *options: str) -> str:
    """What the attacks found; skips where there is no such user or tier."""
    if user == "root" and os.getuid() != 0:
        pytest.skip("not started as root")
    if tier == "A" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    command = [sys.executable, "-B", str(SCRIPT), "--target=sandbox", f"--tier={tier}", *LIMITS, *options]
    if user == "user" and os.getuid() == 0:
        try:
            command = ordinary_user.command(command)
        except OSError as error:
            pytest.skip(f"there is no ordinary user to be had: {error}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    if tier == "A" and "a worker of tier A did not start" in done.stderr:
        pytest.skip(f"bubblewrap does not work here: {done.stderr.splitlines()[-1]}")
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("tier", ["A", "B", "C"])
def test_no_attack_gets_through(tier: str, user: str) -> None:
    found = attack(tier, user, "--fast", "--first")
    assert found.startswith("0 of 24"), found


@pytest.mark.slow
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("tier", ["A", "B", "C"])
def test_no_variation_of_an_attack_gets_through(tier: str, user: str) -> None:
    found = attack(tier, user)
    assert found.startswith("0 of 9"), found


def test_a_plain_interpreter_falls_to_most_of_them() -> None:
    groups = "files|network|environment|processes|libraries"
    options = ["--target=naive", "--wall-seconds=1.5", "--fast", "--first", f"--only={groups}"]
    done = subprocess.run(
        [sys.executable, "-B", str(SCRIPT), *options], capture_output=True, text=True, timeout=200, check=False
    )
    breaches = int(done.stdout.splitlines()[-1].partition(" of ")[0])
    assert breaches >= 40, done.stdout
