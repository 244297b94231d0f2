"""The HTTP client of the engines."""

import asyncio
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from engines.endpoint import OK, ChatServer, in_turn

from slm_math.engines import http
from slm_math.engines.http import Client, Response, TransportError, proxy_of, request

ROOT = Path(__file__).parents[2]


@contextmanager
def saying(data: bytes):
    """The address of a server that says the same to everybody, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(data)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf",
        b"HTTP/1.1 " + b"x" * 100_000,
    ],
    ids=["hang-up", "no-http", "half", "bad-chunks", "bad-gzip", "long-line"],
)
def test_what_is_no_response_is_a_transport_error(data):
    with saying(data) as url, pytest.raises(TransportError):
        request("GET", url, seconds=20)


def test_a_redirect_is_not_followed():
    with saying(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere\r\n\r\n") as url:
        assert request("GET", url, seconds=20).status == 302


def test_cookies_are_not_kept():
    server = ChatServer(in_turn(OK))
    server.script = lambda *_: (*OK, {"Set-Cookie": "a=b"})

    async def twice():
        client = Client()
        for _ in range(2):
            await client.send("POST", server.url, {})
        await client.close()

    asyncio.run(twice())
    server.shutdown()
    assert [headers.get("Cookie") for headers in server.headers] == [None, None]


def test_the_environment_names_the_proxy(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,.example.org")
    proxy_of.cache_clear()
    assert proxy_of("https://api.example.com/v1") == "http://proxy:3128"
    assert proxy_of("https://api.example.org/v1") is None
    assert proxy_of("https://localhost:8000/v1") is None
    proxy_of.cache_clear()


def test_no_file_of_passwords_is_read(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = ChatServer(in_turn(OK))
    request("POST", server.url, {})
    server.shutdown()
    assert "Authorization" not in server.headers[0]


def test_broken_letters_are_no_error():
    assert Response(200, b"\xff\xfe ok").text.endswith("ok")


def test_a_large_body_is_sent():
    server = ChatServer(lambda _, body: (200, {"length": len(body["text"])}, {}))
    assert request("POST", server.url, {"text": "x" * 3_000_000}).json() == {"length": 3_000_000}
    server.shutdown()


def test_a_client_that_nobody_closed_is_silent_at_the_end():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from engines.endpoint import *\n"
        "server = ChatServer(in_turn(OK)); engine = OpenAIEngine(server.url, 'm'); ask(engine)\n"
        "from slm_math.engines.http import request; request('POST', server.url, {})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_certificates_are_those_of_a_file_that_the_environment_names(monkeypatch):
    import certifi

    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    http.certificates.cache_clear()
    assert http.certificates().cert_store_stats()["x509_ca"] > 50
    http.certificates.cache_clear()
