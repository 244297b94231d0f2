"""Fixtures: servers that stop after their test, and an environment without a token."""

import socketserver
import threading
import time

import pytest
from sandbox.light import lighten
from sandbox.servers import running

from slm_math.sandbox import Sandbox, wire
from slm_math.sandbox.serve import SandboxServer


@pytest.fixture(scope="module", autouse=True)
def no_token():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(wire.TOKEN_VARIABLE, raising=False)
        yield


@pytest.fixture
def light(monkeypatch):
    """Workers that start in this test load no libraries."""
    lighten(monkeypatch)


@pytest.fixture
def start():
    """A function that starts a server for a sandbox, and stops it after the test."""
    servers = []

    def begin(sandbox, **options) -> SandboxServer:
        servers.append(running(sandbox, **options))
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.stop()


@pytest.fixture(scope="module")
def real():
    """A server of a real sandbox, and the sandbox."""
    with pytest.MonkeyPatch.context() as patch:
        lighten(patch)
        with Sandbox(workers=2, wall_seconds=30) as sandbox:
            server = running(sandbox)
            yield server, sandbox
            server.shutdown()
            server.server_close()


@pytest.fixture
def scripted():
    """A function that starts a server with a fixed reply and returns its url."""
    servers = []

    def begin(
        answer: bytes, slowly: float = 0.0, times: list | None = None, sent: list | None = None
    ) -> str:
        class RequestHandler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                if times is not None:
                    times.append(time.monotonic())
                length = 0
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                self.rfile.read(length)
                try:
                    for part in (
                        [answer] if not slowly else [answer[i : i + 1] for i in range(len(answer))]
                    ):
                        self.wfile.write(part)
                        if sent is not None:
                            sent.append(part)
                        time.sleep(slowly)
                except OSError:
                    pass

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), RequestHandler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()
