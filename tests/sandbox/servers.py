"""Real and fake clients and servers for the tests of remote and serve."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import pytest

from slm_math.sandbox import tiers
from slm_math.sandbox.remote import RemoteSandbox
from slm_math.sandbox.serve import SandboxServer
from slm_math.types import RunResult

linux = pytest.mark.skipif(tiers.unsupported() is not None, reason=str(tiers.unsupported()))
TOKEN = "a-very-secret-token-0123456789"
GOOD = asdict(RunResult(True, "42\n"))


def client(url: str, **options) -> RemoteSandbox:
    return RemoteSandbox(url, **{"retries": 1, "backoff": 0.02, "timeout_seconds": 60, **options})


def drain(box: RemoteSandbox, seconds: float = 120.0) -> list[tuple[int, RunResult]]:
    results, end = [], time.monotonic() + seconds
    while box.busy and time.monotonic() < end:
        results += box.poll(timeout=0.1)
    return results


def ask(
    url: str, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request(
        method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


class Stub:
    """A fake Sandbox: `act(code)` gives a program's result; it counts programs that run at once."""

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


def running(sandbox, **options) -> SandboxServer:
    server = SandboxServer(sandbox, port=0, **options)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def reply(body: object, status: str = "200 OK", *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + data
