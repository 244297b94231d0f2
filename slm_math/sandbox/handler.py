"""Handle one HTTP request to the server of `serve`: check it, run its program, send the result."""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol, cast

from slm_math.listening import names_this_machine
from slm_math.sandbox import wire
from slm_math.types import RunPython, RunResult

DISCARD_SECONDS = 2.0
IDLE_SECONDS = 30  # the server closes a connection after so long without a byte from the client


class Owner(Protocol):
    """The part of a server that a request uses."""

    token: str

    def run(self, request: RunPython, gone: Callable[[], bool]) -> RunResult: ...


class Refusal(Exception):
    """A request is refused, with an HTTP status and one line for the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class RequestHandler(BaseHTTPRequestHandler):
    """One request. Every connection ends after its reply."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "slm-math", ""
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(200, {"ok": True, "authorized": self._authorized()})
        else:
            self._reply(404, {"error": "there are GET /health and POST /run"})

    def do_POST(self) -> None:
        try:
            if not self._authorized():  # checked before the body is read
                self._discard(self.headers.get("Content-Length", ""))
                raise Refusal(401, "the token is missing or wrong")
            body = self._body()
            if self.path != "/run":
                raise Refusal(404, "there are GET /health and POST /run")
            try:
                request = wire.read_request(body)
            except ValueError as error:
                raise Refusal(400, str(error)) from None
            reply = wire.write_result(self._owner.run(request, self._gone))
        except Refusal as refusal:
            self._reply(refusal.status, {"error": refusal.reason})
        except OSError:
            raise
        except Exception as error:  # a bug of the server must not look like an error of the program
            self._reply(500, {"error": f"{type(error).__name__}: {error}"})
        else:
            self._reply(200, reply)

    @property
    def _owner(self) -> Owner:
        return cast(Owner, self.server)

    def _authorized(self) -> bool:
        token = self._owner.token
        if not token:
            # only this machine can connect, but web pages in a browser on it could do so, too:
            # browsers send an Origin, and the name by which the page found this machine
            local = names_this_machine(self.headers.get_all("Host") or [])
            return local and "Origin" not in self.headers
        sent = self.headers.get("Authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(sent, f"Bearer {token}".encode())

    def _body(self) -> bytes:
        """The body of the request. Raises Refusal if it has no length or is too large."""
        length = self.headers.get("Content-Length", "")
        if (
            not (length.isascii() and length.isdecimal() and len(length) < 16)
            or "Transfer-Encoding" in self.headers
        ):
            raise Refusal(411, "a request needs a Content-Length")
        size = int(length)
        if size > wire.LARGEST_REQUEST:
            self._discard(length)
            raise Refusal(
                413, f"a request may have at most {wire.LARGEST_REQUEST} bytes, this one has {size}"
            )
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError
        return body

    def _discard(self, length: str) -> None:
        """Discard a body for a moment: a client that is cut off while sending sees no reply."""
        left = (
            min(int(length), 8 * wire.LARGEST_REQUEST)
            if length.isdecimal() and length.isascii()
            else 0
        )
        self.connection.settimeout(DISCARD_SECONDS)
        end = time.monotonic() + DISCARD_SECONDS
        with contextlib.suppress(OSError):
            while (
                left > 0
                and time.monotonic() < end
                and (chunk := self.rfile.read1(min(left, 65536)))
            ):
                left -= len(chunk)

    def _gone(self) -> bool:
        """Whether the client has closed the connection."""
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(IDLE_SECONDS)

    def _reply(self, status: int, body: bytes | dict[str, Any]) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._reply(code, {"error": message or f"status {int(code)}"})

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there may be thousands of requests, and programs are private."""
