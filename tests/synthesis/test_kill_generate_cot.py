"""A cascade that is killed again and again makes the rows of one that ran through, and asks no
endpoint again what it answered.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from engines.endpoint import ChatServer
from synthesis.teacher import PLAN, answers, command, number_of

from slm_math.cli import run

ROOT = Path(__file__).parents[2]


class Gate:
    """Answers as many requests as it is allowed to, and holds all others back. `shut` hangs up on
    those, whose process is dead.
    """

    def __init__(self) -> None:
        self.left = self.session = 0
        self.change = threading.Condition()

    def allow(self, more: int) -> None:
        with self.change:
            self.left += more
            self.change.notify_all()

    def shut(self) -> None:
        with self.change:
            self.left, self.session = 0, self.session + 1
            self.change.notify_all()

    def __call__(self, number: int, body: dict[str, Any]) -> Any:
        with self.change:
            session = self.session
            self.change.wait_for(lambda: self.left > 0 or self.session != session)
            if self.session != session:
                return None, None, {}
            self.left -= 1
        return answers(number, body)


def start(arguments: list[str], error: Path) -> subprocess.Popen[bytes]:
    options: Any = {"env": os.environ | {"PYTHONPATH": str(ROOT)}, "stdout": subprocess.DEVNULL}
    with error.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "slm_math", *arguments], stderr=file, **options
        )


def kept(journal: Path) -> set[tuple[int, int]]:
    """Problem and try of the replies that a journal holds."""
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.is_file() else []
    texts = [json.loads(line)["text"] for line in lines]
    pairs = [
        (int(re.findall(r"(\d+)\+", text)[0]), int(re.findall(r"try (\d)", text)[0]))
        for text in texts
    ]
    assert len(set(pairs)) == len(pairs)  # nothing was answered twice
    return set(pairs)


def asked_for(body: dict[str, Any]) -> tuple[int, int]:
    return number_of(body), [each["temperature"] for each in PLAN].index(body["temperature"]) + 1


def made(out: Path) -> tuple[bytes, bytes]:
    return (out / "rows.jsonl").read_bytes(), (out / "tries" / "rejected.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 10])
def test_killed(kills: int, tmp_path: Path, teacher: ChatServer) -> None:
    few = [f"--engines.{role}.init_args.concurrency=3" for role in ("primary", "backup")]
    run(command(tmp_path, teacher, *few, out="straight"))
    requests = len(teacher.bodies)
    teacher.bodies.clear()
    teacher.script = gate = Gate()
    draw = random.Random(0)
    arguments = command(tmp_path, teacher, *few)
    journal, error = tmp_path / "out" / "journal" / "requests.jsonl", tmp_path / "killed.err"
    for _ in range(kills):
        before, seen = kept(journal), len(teacher.bodies)
        process = start(arguments, error)
        more = max(2, requests // (kills + 1))
        gate.allow(more)
        enough = len(before) + draw.randint(1, more)
        while len(kept(journal)) < enough:
            assert process.poll() is None, error.read_text()[-2000:]
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait(300) == -signal.SIGKILL
        gate.shut()
        assert not before & set(map(asked_for, teacher.bodies[seen:]))
    before, seen = kept(journal), len(teacher.bodies)
    gate.allow(1 << 30)
    process = start(arguments, error)
    assert process.wait(600) == 0, error.read_text()[-2000:]
    assert not before & set(map(asked_for, teacher.bodies[seen:]))
    assert len(kept(journal)) == requests
    assert made(tmp_path / "out") == made(tmp_path / "straight")
