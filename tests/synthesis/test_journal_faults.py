"""A journal before an endpoint that fails in every way, in a run that is killed at any moment."""

import hashlib
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from engines.endpoint import ChatServer, completion

RUN = Path(__file__).with_name("journal_run.py")
ROOT = Path(__file__).parents[2]
PROBLEMS = 40
CONCURRENCY = 8


def question(body: dict) -> str:
    """What identifies a request: an agent asks again, with another seed, what was left empty."""
    return json.dumps([body["messages"], body["seed"]])


def right(body: dict) -> tuple[int, dict, dict]:
    """A reply that depends on the question alone, of a solver or a verifier."""
    says = question(body)
    number = int(hashlib.sha256(says.encode()).hexdigest(), 16)
    verdict = "CORRECT" if number % 3 else "INCORRECT"
    text = f"VERDICT: {verdict}" if "VERDICT" in says else f"\\boxed{{{number % 100}}}"
    text = "" if number % 7 == 0 else text
    usage = {"prompt_tokens": len(says) // 4, "completion_tokens": 9}
    return 200, completion(text) | {"usage": usage, "model": "m-1"}, {}


class Faults:
    """A script of a server that fails at some rate, and counts by what was asked."""

    def __init__(self, rate: float = 0.0) -> None:
        self.rate, self.draw = rate, random.Random(0)
        self.asked = Counter[str]()
        self.answered = Counter[str]()

    def __call__(self, number: int, body: dict) -> tuple:
        says = question(body)
        self.asked[says] += 1
        time.sleep(0.002)
        if self.draw.random() < self.rate:
            return self.fault()
        self.answered[says] += 1
        return right(body)

    def fault(self) -> tuple:
        def slowly():
            yield b'{"choices": '
            time.sleep(1)
            yield b"[]}"

        def broken():
            yield b'{"choices": [{"mess'

        return self.draw.choice(
            [
                (500, b"oops", {}),
                (429, {"error": "slow down"}, {"Retry-After": "0.01"}),
                (503, {}, {"Retry-After": "0.01"}),
                (200, b"{broken", {}),
                (200, b"<html></html>", {"Content-Type": "text/html"}),
                (200, {"choices": []}, {}),
                (200, slowly(), {}),
                (200, broken(), {}),
                (200, completion("half", "abort"), {}),
                (None, None, {}),
                (408, {}, {}),
            ]
        )


@pytest.fixture
def serve():
    servers = []

    def start(script) -> ChatServer:
        servers.append(ChatServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def started(server: ChatServer, journal: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RUN), server.url, str(journal), str(PROBLEMS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )


def finished(server: ChatServer, journal: Path) -> list[str]:
    """The lines of a run that comes to its end."""
    process = started(server, journal)
    lines, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return lines.splitlines()


def test_an_endpoint_that_fails_in_every_way_loses_nothing(serve, tmp_path):
    faults, healthy = Faults(0.4), Faults()
    whole = finished(serve(healthy), tmp_path / "healthy.jsonl")
    assert finished(serve(faults), tmp_path / "faulty.jsonl") == whole
    assert set(faults.answered) == set(healthy.answered)
    # sound replies came once, but for those that came too late on a busy machine
    assert sum(faults.answered.values()) <= 1.1 * len(faults.answered)


@pytest.mark.slow
def test_an_endpoint_that_refuses_the_key_on_the_way_keeps_what_it_answered(serve, tmp_path):
    whole = finished(serve(Faults()), tmp_path / "whole.jsonl")
    faults, journal = Faults(), tmp_path / "refused.jsonl"
    refused = serve(lambda number, body: (401, {}, {}) if number >= 30 else faults(number, body))
    process = started(refused, journal)
    process.communicate(timeout=120)
    assert process.returncode != 0
    refused.script = faults
    assert finished(refused, journal) == whole
    assert sum(times - 1 for times in faults.answered.values()) <= CONCURRENCY


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 10])
def test_a_run_that_is_killed_asks_nothing_answered_again(serve, tmp_path, kills):
    whole = finished(serve(Faults()), tmp_path / "whole.jsonl")
    faults, journal, draw = Faults(0.2), tmp_path / "killed.jsonl", random.Random(kills)
    server = serve(faults)
    for n in range(kills):
        known = len(server.bodies)
        process = started(server, journal)
        # somewhere in the share of the run that is this session's
        until = known + draw.randrange(1, 2 * PROBLEMS * 2 // kills)
        while process.poll() is None and len(server.bodies) < until:
            threading.Event().wait(0.002)
        process.kill()
        process.communicate()
        check_known_replies_are_not_asked(server, journal, n)
    assert finished(server, journal) == whole
    again = sum(times - 1 for times in faults.answered.values())
    # those that were under way, and those that came too late on a busy machine
    assert again <= kills * CONCURRENCY + 0.1 * len(faults.answered)


def check_known_replies_are_not_asked(server: ChatServer, journal: Path, session: int) -> None:
    """No request goes out whose reply was in the file when its process started."""
    texts = [json.loads(line) for line in complete_lines(journal)[1:]]
    digests = [line["digest"] for line in texts]
    assert len(digests) == len(set(digests)), f"session {session} asked again"


def complete_lines(path: Path) -> list[bytes]:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1].splitlines()
