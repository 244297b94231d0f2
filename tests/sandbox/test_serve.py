"""The server: which requests it accepts, how many at once, and how it refuses the others."""

import threading
import time

import pytest
from sandbox.servers import TOKEN, Stub, ask, client, drain, linux, running
from sandbox.watching import eventually

from slm_math.sandbox import Sandbox, wire
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.serve import SandboxServer, serve
from slm_math.types import RunPython, RunResult


def test_the_server_drops_programs_whose_client_left(start):
    gate = threading.Event()
    stub = Stub(lambda code: gate.wait(60) and RunResult(True, code), workers=1)
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


def test_no_more_programs_run_or_wait_than_allowed(start):
    gate = threading.Event()
    stub = Stub(lambda code: gate.wait(60) and RunResult(True, code), workers=2)
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
            with pytest.raises(
                SandboxError, match=f"{reason} the environment variable THEIRS"
            ) as caught:
                box.start()
            assert ask(server.url, "GET", "/health") == (200, {"ok": True, "authorized": False})
            assert TOKEN not in str(caught.value) + repr(box)
            assert stub.codes == []
    assert TOKEN not in "".join(capfd.readouterr())


def test_listens_to_others_only_with_a_token(monkeypatch):
    monkeypatch.delenv(wire.TOKEN_VARIABLE, raising=False)
    for host in ("0.0.0.0", "", "::"):
        stub = Stub()
        with pytest.raises(ValueError, match="without a token"):
            serve(stub, host, 0)
        assert stub.closed.is_set()
    with (
        SandboxServer(Stub(), "localhost", 0) as server,
        pytest.raises(SandboxError, match=r"cannot listen on .*in use"),
    ):
        SandboxServer(Stub(), port=server.server_address[1])
    monkeypatch.setenv(wire.TOKEN_VARIABLE, TOKEN)
    SandboxServer(Stub(), "0.0.0.0", 0).server_close()


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
    assert ask(url, "POST", "/run", b'{"code": "1"}', Host="evil.example")[0] == 401


@linux
@pytest.mark.usefixtures("light")
def test_stopping_while_a_program_runs_is_a_failure_of_the_server():
    sandbox = Sandbox(workers=1, wall_seconds=250)
    sandbox.start()
    server = running(sandbox)
    with client(server.url, retries=0) as box:
        box.submit(RunPython("import time\ntime.sleep(200)"))
        time.sleep(0.3)
        server.shutdown()
        server.stop()
        with pytest.raises(SandboxError, match="status 503"):  # and not what the program gave
            box.poll(timeout=60)
