"""The attacks of attacks/*.yaml on every tier of this machine, as root and as an ordinary user.

By default one program of each attack runs, on one of the tiers that work without bubblewrap, as
root or as an ordinary user; `-m slow` runs all of them everywhere, also those that take a whole
time limit.
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sandbox import ordinary_user

SCRIPT = Path(__file__).with_name("attack.py")
LIMITS = ["--cpu-seconds=0.5", "--wall-seconds=1.5", "--memory-mb=256", "--workers=1"]
PLACES = [(tier, user) for user in ("root", "user") for tier in ("A", "B", "C")]


def attack(tier: str, user: str, *options: str) -> subprocess.CompletedProcess[str] | str:
    """Run the attacks on a tier as a user; or the reason why this is not possible."""
    if user == "root" and os.getuid() != 0:
        return "not started as root"
    if tier == "A" and shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    command = [
        sys.executable,
        "-B",
        str(SCRIPT),
        "--target=sandbox",
        f"--tier={tier}",
        *LIMITS,
        *options,
    ]
    plain = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    if user == "user" and os.getuid() == 0:
        try:
            command, plain = ordinary_user.command(command), ordinary_user.command(plain)
        except OSError as error:
            return f"there is no ordinary user to be had: {error}"
    if tier == "A" and subprocess.run(plain, capture_output=True, check=False).returncode:
        return "bubblewrap does not work here"
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def check(done: subprocess.CompletedProcess[str] | str, least: int) -> None:
    if isinstance(done, str):
        pytest.skip(done)
    summary = re.search(r"^(\d+) of (\d+) programs with findings", done.stdout, re.MULTILINE)
    assert summary is not None, done.stderr
    assert int(summary[1]) == 0, done.stdout
    assert int(summary[2]) >= least


# What each place runs by default: B and C together have all attacks, half of them with root.
PARTS = dict(zip(PLACES, ("1/8", "2/8", "4/8", "5/8", "6/8", "8/8")))


@pytest.fixture(scope="module")
def outcomes():
    """Two places at a time, as many attacks wait for a time limit."""
    with ThreadPoolExecutor(2) as lanes:
        options = {place: ("--fast", "--first", f"--part={PARTS[place]}") for place in PLACES}
        yield {place: lanes.submit(attack, *place, *options[place]) for place in PLACES}


@pytest.mark.parametrize(("tier", "user"), PLACES)
def test_no_attack_gets_through(outcomes, tier: str, user: str) -> None:
    check(outcomes[tier, user].result(), 240 // int(PARTS[tier, user][-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("tier", "user"), PLACES)
def test_no_variation_of_an_attack_gets_through(tier: str, user: str) -> None:
    check(attack(tier, user), 950)


def test_a_plain_interpreter_falls_to_most_of_them() -> None:
    groups = "^(files|network)/"
    options = [
        "--target=naive",
        "--wall-seconds=1.5",
        "--fast",
        "--first",
        f"--only={groups}",
        "--part=1/2",
    ]
    done = subprocess.run(
        [sys.executable, "-B", str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    breaches = int(done.stdout.splitlines()[-1].partition(" of ")[0])
    assert breaches >= 17, done.stdout
