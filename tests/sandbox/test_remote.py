"""Programs on a server have the same results as here, and errors of the server are not theirs."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from sandbox import light
from sandbox.servers import GOOD, TOKEN, Stub, client, drain, linux, reply
from sandbox.watching import eventually

from slm_math.sandbox import wire
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.remote import RemoteSandbox
from slm_math.types import RunPython, RunResult


@linux
@pytest.mark.parametrize(
    ("code", "earlier"),
    [
        ("print(6 * 7)", ()),
        ("6 * 7", ()),
        ("a = 1\nb = 0\nprint(a / b)", ()),
        ("x = = 2", ()),
        ("print('√2 ≈ 1.41 \U0001d54f \\x00')", ()),
        ("print('\ud800')", ()),
        ("print(ascii(y))", ("y = 'é\u2028'",)),
        ("print(x * y)", ("x = 6\nprint('silent')", "y = x + 1")),
        ("exit(3)", ()),
        ("print('a' * 100_000)", ()),
        ("", ()),
    ],
)
def test_gives_what_a_sandbox_here_gives(real, code, earlier):
    server, sandbox = real
    with client(server.url) as box:
        there, here = box.run(code, earlier), sandbox.run(code, earlier)
    assert replace(there, seconds=0) == replace(here, seconds=0)
    assert there.seconds > 0


@linux
def test_says_where_a_program_failed(real):
    with client(real[0].url) as box:
        result = box.run("a = 1\n1 / 0")
    assert not result.ok
    assert (result.error_type, result.error_line) == ("ZeroDivisionError", 2)
    assert "line 2: ZeroDivisionError" in result.error


@linux
def test_many_at_once_each_get_their_own(real):
    with client(real[0].url, workers=6) as box:
        tickets = {box.submit(RunPython(f"print({i})")): i for i in range(12)}
        assert box.busy == 12
        results = dict(drain(box))
    assert {tickets[ticket]: result.stdout for ticket, result in results.items()} == {
        i: f"{i}\n" for i in range(12)
    }


@linux
def test_a_server_that_is_killed_and_comes_back():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        f"{light.CODE}\nfrom slm_math.sandbox.serve import Sandbox, serve\n"
        f"serve(Sandbox(1), port={port})"
    )
    command = [sys.executable, "-c", code]

    def begin() -> subprocess.Popen:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        return process

    server = begin()
    try:
        with client(f"http://127.0.0.1:{port}", retries=8, backoff=0.1) as box:
            box.start()
            ticket = box.submit(RunPython("import time\ntime.sleep(3)\nprint('done')"))
            time.sleep(0.35)
            server.kill()
            server.wait()
            assert box.poll() == []
            server = begin()
            [(found, result)] = drain(box)
            assert (found, result.ok, result.stdout) == (ticket, True, "done\n")
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.wait()


def test_no_server_names_the_url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with client(url) as box:
        with pytest.raises(SandboxError, match=f"{url}: ConnectionRefused.*tried 2 times"):
            box.run("1")
        assert box.busy == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a valid result"),
        (b"<html>", "not a valid result"),
        (b"[" * 100_000, "nested"),
        ([], "not an object"),
        ({"ok": True}, "stdout is missing"),
        ({**GOOD, "ok": 1}, "ok is missing or not of type bool"),
        ({**GOOD, "stdout": None}, "stdout"),
        ({**GOOD, "stdout": ["42"]}, "stdout"),
        ({**GOOD, "seconds": "1"}, "seconds"),
        ({**GOOD, "seconds": float("nan")}, "NaN"),
        ({**GOOD, "seconds": -1}, "out of range"),
        (json.dumps(GOOD).replace('"seconds": 0.0', '"seconds": 1e999').encode(), "out of range"),
        ({**GOOD, "error_line": True}, "error_line"),
        ({**GOOD, "error_line": 1.5}, "error_line"),
        ({**GOOD, "stdout": "x" * wire.LARGEST_REPLY}, "larger than 4 MiB"),
        (b"\xff\xfe", "not a valid result"),
    ],
)
def test_a_reply_that_is_no_result_is_a_failure(scripted, body, reason):
    times = []
    with (
        client(scripted(reply(body), times=times)) as box,
        pytest.raises(SandboxError, match=reason),
    ):
        box.run("1")
    assert len(times) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        reply(GOOD)[:-5],
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500,
        reply({}, "502 Bad"),
    ],
)
def test_what_is_no_http_or_no_success_is_a_failure(scripted, answer):
    with client(scripted(answer)) as box, pytest.raises(SandboxError, match="tried 2 times"):
        box.run("1")


def test_a_good_reply_may_have_more_fields_and_loses_lone_surrogates(scripted):
    with client(scripted(reply({**GOOD, "stdout": "\ud800é", "seconds": 1, "new": []}))) as box:
        assert box.run("1") == RunResult(True, "?é", seconds=1.0)


@pytest.mark.parametrize(
    "status", ["301 Moved", "400 Bad Request", "404 Not Found", "413 Too Large"]
)
def test_a_refusal_is_final(scripted, status):
    times = []
    url = scripted(
        reply({"error": "no\nway"}, status, "Location: http://127.0.0.1:1/"), times=times
    )
    with client(url) as box, pytest.raises(SandboxError, match=f"status {status[:3]}: no way"):
        box.run("1")
    assert len(times) == 1


def test_waits_as_long_as_the_server_asks(scripted):
    times = []
    url = scripted(reply({"error": "busy"}, "503 Busy", "Retry-After: 1"), times=times)
    with client(url) as box, pytest.raises(SandboxError, match="status 503: busy"):
        box.run("1")
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("slowly", [0.05, 5])
def test_a_slow_server_has_so_long_for_all_of_its_reply(scripted, slowly):
    sent = []
    url = scripted(reply(GOOD), slowly, sent=sent)
    with (
        client(url, timeout_seconds=0.3, retries=0) as box,
        pytest.raises(SandboxError, match=r"no reply within 0\.3 s"),
    ):
        box.run("1")
    assert len(sent) < len(reply(GOOD))  # nobody waited for all of it


def test_a_session_has_as_long_for_each_block(start):
    stub = Stub(lambda code: time.sleep(1.2) or RunResult(True, code))
    with client(start(stub).url, timeout_seconds=1, retries=0) as box:
        assert box.run("c", ["a", "b"]).stdout == "c"


def test_https_to_a_server_without_it(start):
    url = start(Stub()).url.replace("http:", "https:")
    with client(url, retries=0) as box, pytest.raises(SandboxError, match="SSL"):
        box.run("1")


def test_hands_out_what_went_well_first(start):
    def act(code: str) -> RunResult:
        if code == "bad":
            raise SandboxError("no\nprocesses left")
        return RunResult(True, code)

    with client(start(Stub(act)).url, retries=0, workers=1) as box:
        bad, *good = [box.submit(RunPython(code)) for code in ("bad", "a", "b")]
        assert eventually(lambda: len(box._done) == 3)
        assert [ticket for ticket, _ in box.poll()] == good
        with pytest.raises(SandboxError, match="status 503: no processes left"):
            box.poll()
        assert (box.busy, box.poll(), bad) == (0, [], 1)


def test_run_is_not_seen_by_poll(start):
    gate = threading.Event()
    stub = Stub(lambda code: gate.wait(60) and RunResult(True, code))
    with client(start(stub).url) as box:
        found = []
        waiter = threading.Thread(target=lambda: found.append(box.run("mine")))
        waiter.start()
        assert eventually(lambda: stub.codes == ["mine"])
        assert (box.busy, box.poll(timeout=0.05)) == (1, [])
        gate.set()
        waiter.join(60)
        assert found == [RunResult(True, "mine")]


def test_programs_run_while_nobody_polls(start):
    stub = Stub()
    with client(start(stub).url, workers=1) as box:
        for i in range(5):
            box.submit(RunPython(str(i)))
        assert eventually(lambda: len(stub.codes) == 5)
        assert [result.stdout for _, result in drain(box)] == list("01234")


def test_cancel_frees_the_worker(start):
    gate = threading.Event()
    stub = Stub(lambda code: (code != "slow" or gate.wait(60)) and RunResult(True, code))
    with client(start(stub).url, workers=1) as box:
        slow, waiting, last = [box.submit(RunPython(code)) for code in ("slow", "waiting", "last")]
        assert eventually(lambda: stub.codes == ["slow"])
        box.cancel(slow)
        box.cancel(waiting)
        box.cancel(99)
        assert drain(box) == [(last, RunResult(True, "last"))]
        gate.set()
        assert "waiting" not in stub.codes


def test_close_ends_what_runs_waits_or_backs_off(start, scripted):
    gate, ended = threading.Event(), []

    def act(code: str) -> RunResult:
        gate.wait(240)
        ended.append(code)
        return RunResult(True, code)

    for url in (start(Stub(act)).url, scripted(reply({}, "503 Busy", "Retry-After: 900"))):
        box = client(url, workers=2)
        for _ in range(5):
            box.submit(RunPython("1"))
        failures = []

        def run(box=box, failures=failures) -> None:
            try:
                box.run("2")
            except SandboxError as error:
                failures.append(str(error))

        waiter = threading.Thread(target=run)
        waiter.start()
        assert eventually(lambda box=box: box.busy == 6)
        time.sleep(0.1)
        box.close()
        waiter.join(60)
        assert not ended  # nobody waited for the server
        assert failures == ["the sandbox was closed"]
        assert not any(thread.is_alive() for thread in box._threads)
        box.close()
        with pytest.raises(SandboxError, match="is closed"):
            box.submit(RunPython("1"))
    gate.set()


def test_a_token_that_is_quoted_back_is_not_shown(scripted, monkeypatch):
    monkeypatch.setenv(wire.TOKEN_VARIABLE, TOKEN)
    url = scripted(reply({"error": f"Bearer {TOKEN} is odd"}, "400 Bad Request"))
    with client(url) as box, pytest.raises(SandboxError, match=r"Bearer \[token\] is odd"):
        box.run("1")


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:8080", "http://", "http://me:pw@host", "http://host/?token=1"]
)
def test_urls_that_are_none(url):
    with pytest.raises(ValueError, match="sandbox's url"):
        RemoteSandbox(url)
