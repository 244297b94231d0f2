"""A ladder of real steps that is killed, and stopped, at random moments gives the same table."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts.climbing import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
TABLE = Path(__file__).with_name("small_table.yaml")
FILES = ("table.md", "table.json")


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "scripts/table.py", f"--table={TABLE}", f"--out={out}"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=out.with_suffix(".out").open("ab"),
        stderr=subprocess.STDOUT,
    )


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a process started and that are still there."""
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def ended(pids: list[int]) -> bool:
    for _ in range(100):
        alive = [pid for pid in pids if is_running(pid)]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_and_stopped_at_random(tmp_path: Path) -> None:
    # in one folder after the other, under one name: models know the path of their base
    out = tmp_path / "out"
    assert start(out).wait() == 0, (tmp_path / "out.out").read_text()[-3000:]
    straight = [(out / name).read_bytes() for name in FILES]
    out.rename(tmp_path / "straight")

    draw = random.Random(os.environ.get("SLM_MATH_FUZZ", "0"))
    for way in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = start(out)
        time.sleep(draw.uniform(5, 60))
        steps = children(process)
        process.send_signal(way)
        status = process.wait()
        assert status in (-way, 128 + way, 0)
        assert ended(steps)
    assert start(out).wait() == 0, (tmp_path / "out.out").read_text()[-3000:]
    assert [(out / name).read_bytes() for name in FILES] == straight
