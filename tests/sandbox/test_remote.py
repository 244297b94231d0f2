"""Programs that run on a server: the same results as here, and no failure of the server passes for one of theirs."""

import http.client
import json
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from urllib.parse import urlsplit

import pytest

from slm_math.sandbox import Sandbox, tiers, wire
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.remote import RemoteSandbox
from slm_math.sandbox.serve import Server, serve
from slm_math.types import RunPython, RunResult

linux = pytest.mark.skipif(tiers.unsupported() is not None, reason=str(tiers.unsupported()))
TOKEN = "a-very-secret-token-0123456789"
GOOD = asdict(RunResult(True, "42\n"))


def eventually(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def client(url: str, **options) -> RemoteSandbox:
    return RemoteSandbox(url, **{"retries": 1, "backoff": 0.02, "timeout_seconds": 5, **options})


def drain(box: RemoteSandbox, seconds: float = 10.0) -> list[tuple[int, RunResult]]:
    results, end = [], time.monotonic() + seconds
    while box.busy and time.monotonic() < end:
        results += box.poll(timeout=0.1)
    return results


def ask(url: str, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


class Stub:
    """Stands for a Sandbox: `act(code)` says what a program gives; counts who runs at once."""

    def __init__(self, act=lambda code: RunResult(True, code), workers: int = 2) -> None:
        self.act, self.workers = act, workers
        self.codes: list[str] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.closed = threading.Event()

    def start(self) -> None:
        pass

    def run(self, code: str, earlier: Sequence[str] = (), turns: int = 0) -> RunResult:
        with self.lock:
            self.codes.append(code)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return self.act(code)
        finally:
            with self.lock:
                self.now -= 1

    def close(self) -> None:
        self.closed.set()


def running(sandbox, **options) -> Server:
    server = Server(sandbox, port=0, **options)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture(scope="module", autouse=True)
def no_token():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(wire.TOKEN_VARIABLE, raising=False)
        yield


@pytest.fixture
def start():
    """A function that starts a server for a sandbox, and stops it after the test."""
    servers = []

    def begin(sandbox, **options) -> Server:
        servers.append(running(sandbox, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.stop()


@pytest.fixture(scope="module")
def real():
    """A server of a real sandbox, and the sandbox."""
    with Sandbox(workers=2, wall_seconds=30) as sandbox:
        server = running(sandbox)
        yield server, sandbox
        server.shutdown()
        server.server_close()


@pytest.fixture
def scripted():
    """A function that starts a server which says the given bytes to everybody, and returns its url."""
    servers = []

    def begin(answer: bytes, slowly: float = 0.0, times: list | None = None) -> str:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if times is not None:
                    times.append(time.monotonic())
                length = 0
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                self.rfile.read(length)
                try:
                    for part in [answer] if not slowly else [answer[i : i + 1] for i in range(len(answer))]:
                        self.wfile.write(part)
                        time.sleep(slowly)
                except OSError:
                    pass

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def reply(body: object, status: str = "200 OK", *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + data


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
    assert {tickets[ticket]: result.stdout for ticket, result in results.items()} == {i: f"{i}\n" for i in range(12)}


@linux
def test_a_server_that_is_killed_and_comes_back():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from slm_math.sandbox.serve import Sandbox, serve; serve(Sandbox(1), port={port})"
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
            ticket = box.submit(RunPython("import time\ntime.sleep(1)\nprint('done')"))
            time.sleep(0.35)
            server.kill()
            server.wait()
            assert box.poll() == []
            server = begin()
            [(found, result)] = drain(box)
            assert (found, result.ok, result.stdout) == (ticket, True, "done\n")
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=5) == 0
    finally:
        server.kill()
        server.wait()


@linux
def test_stopping_while_a_program_runs_is_a_failure_of_the_server():
    sandbox = Sandbox(workers=1)
    sandbox.start()
    server = running(sandbox)
    with client(server.url, retries=0) as box:
        box.submit(RunPython("import time\ntime.sleep(20)"))
        time.sleep(0.3)
        server.shutdown()
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        with pytest.raises(SandboxError, match="status 503"):
            box.poll(timeout=5)


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
        (b"", "no result"),
        (b"<html>", "no result"),
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
        (b"\xff\xfe", "no result"),
    ],
)
def test_a_reply_that_is_no_result_is_a_failure(scripted, body, reason):
    times = []
    with client(scripted(reply(body), times=times)) as box, pytest.raises(SandboxError, match=reason):
        box.run("1")
    assert len(times) == 2


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", reply(GOOD)[:-5], b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500, reply({}, "502 Bad")],
)
def test_what_is_no_http_or_no_success_is_a_failure(scripted, answer):
    with client(scripted(answer)) as box, pytest.raises(SandboxError, match="tried 2 times"):
        box.run("1")


def test_a_good_reply_may_have_more_fields_and_loses_lone_surrogates(scripted):
    with client(scripted(reply({**GOOD, "stdout": "\ud800é", "seconds": 1, "new": []}))) as box:
        assert box.run("1") == RunResult(True, "?é", seconds=1.0)


@pytest.mark.parametrize("status", ["301 Moved", "400 Bad Request", "404 Not Found", "413 Too Large"])
def test_a_refusal_is_final(scripted, status):
    times = []
    url = scripted(reply({"error": "no\nway"}, status, "Location: http://127.0.0.1:1/"), times=times)
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
    started = time.monotonic()
    url = scripted(reply(GOOD), slowly)
    with (
        client(url, timeout_seconds=0.3, retries=0) as box,
        pytest.raises(SandboxError, match=r"no reply within 0\.3 s"),
    ):
        box.run("1")
    assert time.monotonic() - started < 2


def test_a_session_has_as_long_for_each_block(start):
    stub = Stub(lambda code: time.sleep(0.4) or RunResult(True, code))
    with client(start(stub).url, timeout_seconds=0.3, retries=0) as box:
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
    stub = Stub(lambda code: gate.wait(5) and RunResult(True, code))
    with client(start(stub).url) as box:
        found = []
        waiter = threading.Thread(target=lambda: found.append(box.run("mine")))
        waiter.start()
        assert eventually(lambda: stub.codes == ["mine"])
        assert (box.busy, box.poll(timeout=0.05)) == (1, [])
        gate.set()
        waiter.join(5)
        assert found == [RunResult(True, "mine")]


def test_goes_on_while_nobody_polls(start):
    stub = Stub()
    with client(start(stub).url, workers=1) as box:
        for i in range(5):
            box.submit(RunPython(str(i)))
        assert eventually(lambda: len(stub.codes) == 5)
        assert [result.stdout for _, result in drain(box)] == list("01234")


def test_cancel_frees_the_worker(start):
    gate = threading.Event()
    stub = Stub(lambda code: (code != "slow" or gate.wait(5)) and RunResult(True, code))
    with client(start(stub).url, workers=1) as box:
        slow, waiting, last = [box.submit(RunPython(code)) for code in ("slow", "waiting", "last")]
        assert eventually(lambda: stub.codes == ["slow"])
        box.cancel(slow)
        box.cancel(waiting)
        box.cancel(99)
        assert drain(box) == [(last, RunResult(True, "last"))]
        gate.set()
        assert "waiting" not in stub.codes


def test_the_server_drops_programs_whose_client_left(start):
    gate = threading.Event()
    stub = Stub(lambda code: gate.wait(5) and RunResult(True, code), workers=1)
    server = start(stub)
    with client(server.url) as box:
        box.submit(RunPython("first"))
        assert eventually(lambda: stub.codes == ["first"])
        left = box.submit(RunPython("left"))
        assert eventually(lambda: server._programs == 2)
        box.cancel(left)
        time.sleep(0.05)
        gate.set()
        assert eventually(lambda: server._programs == 0)
    assert stub.codes == ["first"]


def test_close_ends_what_runs_waits_or_backs_off(start, scripted):
    gate = threading.Event()
    stub = Stub(lambda code: gate.wait(5) and RunResult(True, code))
    for url in (start(stub).url, scripted(reply({}, "503 Busy", "Retry-After: 50"))):
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
        started = time.monotonic()
        box.close()
        waiter.join(2)
        assert time.monotonic() - started < 3
        assert failures == ["the sandbox was closed"]
        assert not any(thread.is_alive() for thread in box._threads)
        box.close()
        with pytest.raises(SandboxError, match="is closed"):
            box.submit(RunPython("1"))
    gate.set()


def test_no_more_programs_run_or_wait_than_allowed(start):
    gate = threading.Event()
    stub = Stub(lambda code: gate.wait(5) and RunResult(True, code), workers=2)
    server = start(stub, waiting=1)
    with client(server.url, workers=3) as box, client(server.url, retries=0) as other:
        for _ in range(3):
            box.submit(RunPython("1"))
        assert eventually(lambda: server._programs == 3)
        with pytest.raises(SandboxError, match="busy: 3 programs"):
            other.run("2")
        assert ask(server.url, "GET", "/health")[0] == 200
        gate.set()
        assert len(drain(box)) == 3
    assert stub.most == 2


@pytest.mark.parametrize("theirs", [TOKEN, TOKEN + "x", ""])
def test_a_server_with_a_token_runs_nothing_without_it(start, monkeypatch, capfd, theirs):
    stub = Stub()
    monkeypatch.setenv("OURS", TOKEN)
    monkeypatch.setenv("THEIRS", theirs)
    server = start(stub, token_variable="OURS")
    with client(server.url, token_variable="THEIRS") as box:
        if theirs == TOKEN:
            assert box.run("1").stdout == "1"
        else:
            reason = "does not accept the token in" if theirs else "asks for a token: set"
            with pytest.raises(SandboxError, match=f"{reason} the environment variable THEIRS") as caught:
                box.start()
            assert ask(server.url, "GET", "/health") == (200, {"ok": True, "authorized": False})
            assert TOKEN not in str(caught.value) + repr(box)
            assert stub.codes == []
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_token_that_is_quoted_back_is_not_shown(scripted, monkeypatch):
    monkeypatch.setenv(wire.TOKEN_VARIABLE, TOKEN)
    url = scripted(reply({"error": f"Bearer {TOKEN} is odd"}, "400 Bad Request"))
    with client(url) as box, pytest.raises(SandboxError, match=r"Bearer \[token\] is odd"):
        box.run("1")


def test_listens_to_others_only_with_a_token(monkeypatch):
    monkeypatch.delenv(wire.TOKEN_VARIABLE, raising=False)
    for host in ("0.0.0.0", "", "::"):
        stub = Stub()
        with pytest.raises(ValueError, match="without a token"):
            serve(stub, host, 0)
        assert stub.closed.is_set()
    with Server(Stub(), "localhost", 0) as server, pytest.raises(SandboxError, match=r"cannot listen on .*in use"):
        Server(Stub(), port=server.server_address[1])
    monkeypatch.setenv(wire.TOKEN_VARIABLE, TOKEN)
    Server(Stub(), "0.0.0.0", 0).server_close()


def test_a_sandbox_that_does_not_start_is_not_served():
    class Broken(Stub):
        def start(self) -> None:
            raise SandboxError("no walls here")

    stub = Broken()
    with pytest.raises(SandboxError, match="no walls here"):
        serve(stub, port=0)
    assert stub.closed.is_set()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 50_000, 400, "not JSON: nested"),
        (b"[]", 400, "must be like"),
        (b'{"code": 1}', 400, "must be like"),
        (b'{"code": "", "earlier": "x"}', 400, "earlier must be a list of strings"),
        (b'{"code": "", "earlier": [1]}', 400, "earlier must be a list of strings"),
        (b'{"code": "", "later": []}', 400, "unknown field 'later'"),
        (b'{"code": "' + b"x" * (3 << 20) + b'"}', 413, "at most 1048576 bytes"),
    ],
)
def test_the_server_says_what_is_wrong_with_a_request(start, body, status, reason):
    stub = Stub()
    found, answer = ask(start(stub).url, "POST", "/run", body)
    assert (found, stub.codes) == (status, [])
    assert reason in answer["error"]


def test_the_server_knows_two_paths(start):
    url = start(Stub()).url
    assert ask(url, "GET", "/health") == (200, {"ok": True, "authorized": True})
    assert ask(url, "POST", "/run", b'{"code": "1"}')[0] == 200
    assert ask(url, "GET", "/")[0] == ask(url, "POST", "/", b"{}")[0] == 404
    assert ask(url, "DELETE", "/run")[0] == 501
    assert ask(url, "POST", "/run", b'{"code": "1"}', Transfer_Encoding="chunked")[0] == 411
    assert ask(url, "POST", "/run", b'{"code": "1"}', Origin="http://evil.example")[0] == 401


@pytest.mark.parametrize("url", ["ftp://host", "host:8080", "http://", "http://me:pw@host", "http://host/?token=1"])
def test_urls_that_are_none(url):
    with pytest.raises(ValueError, match="sandbox's url"):
        RemoteSandbox(url)
