"""What reaches the endpoint of an agent and is no HTTP request."""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
from solving.replay import Replay, post, serving

from slm_math.agents import SingleShot


@pytest.mark.parametrize(
    "head", ["Content-Length: -5", "Content-Length: many", "Transfer-Encoding: what", "no header"]
)
def test_what_is_no_request_is_answered_in_openais_shape(
    head: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(SingleShot("solve_plain"), Replay(["It is \\boxed{4}."])) as server:
        where = urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port), timeout=60) as client:
            lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{{}}"
            client.sendall(lines.encode())
            response = http.client.HTTPResponse(client)
            response.begin()
            error = json.loads(response.read())["error"]
        assert response.status == 400
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        assert "\n" not in error["message"]
        assert post(server).json()["choices"]  # others are answered
    assert "Traceback" not in capfd.readouterr().err + caplog.text
