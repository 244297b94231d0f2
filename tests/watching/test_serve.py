"""The server: this machine alone, GET alone, no file but what a run has."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from watching.made import lines, run, sample

from slm_math.report.document import hashed
from slm_math.watching.run import WatchedRun
from slm_math.watching.serve import WatchServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WatchServer]:
    root = run(tmp_path / "run", lines(0, 0, [sample(), sample(number=1, right=False)]))
    (tmp_path / "secret.txt").write_text("secret")
    with WatchServer(WatchedRun(root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: WatchServer, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response, response.read()


def test_the_page_asks_for_nothing_from_elsewhere(server: WatchServer) -> None:
    response, body = ask(server, "/")
    text = body.decode()
    [style], [script] = (
        re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL) for name in ("style", "script")
    )
    rules = response.headers["Content-Security-Policy"]
    assert f"script-src {hashed(script)}" in rules
    assert f"style-src {hashed(style)}" in rules
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert re.findall(r"(?:https?:)?//[\w.]+/", text) == ["http://www.w3.org/"]  # the name of SVG


def test_its_questions_are_answered(server: WatchServer) -> None:
    response, body = ask(server, "/state?generation=&revision=0&rows=0")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body)["steps"][0]["samples"] == 2
    _, body = ask(server, "/transcript?epoch=0&batch=0&group=0&number=1")
    assert json.loads(body)["title"] == "p/1, sample 1"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "x@evil.example", "", "10.0.0.1"]
)
def test_other_names_are_refused(server: WatchServer, host: str) -> None:
    """A name that a page elsewhere had resolved to this machine."""
    response, body = ask(server, "/state", Host=host)
    assert response.status == 403
    assert b"steps" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:9"])
def test_this_machine_is_served_through_a_tunnel_too(server: WatchServer, host: str) -> None:
    assert ask(server, "/", Host=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_only_get_is_served(server: WatchServer, method: str) -> None:
    response, _ = ask(server, "/state", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "//secret.txt",
        "/rollouts.jsonl",
        "/evaluation?name=../secret.txt",
        "/evaluation?name=..",
        "/transcript?evaluation=%2Fetc&number=0",
        "/transcript?epoch=0&batch=0&group=0&number=99",
        "/step?epoch=0&batch=1e9",
        "/nothing",
    ],
)
def test_nothing_else_is_there(server: WatchServer, path: str) -> None:
    response, body = ask(server, path)
    assert response.status in (400, 404)
    assert b"secret\n" not in body
    assert "error" in json.loads(body)


def test_it_listens_on_this_machine_alone(server: WatchServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}"


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    root = run(tmp_path, lines(0, 0, [sample()]))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            WatchServer(WatchedRun(root), port)


def test_ctrl_c_ends_it_with_a_line(tmp_path: Path) -> None:
    root = run(tmp_path, lines(0, 0, [sample()]))
    command: list[Any] = [sys.executable, "-m", "slm_math", "watch", root]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # a shell ignores it in background jobs
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert re.search(r"at http://127\.0\.0\.1:\d+; stop it", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().strip() == "stopped watching"
    assert process.returncode == 0
