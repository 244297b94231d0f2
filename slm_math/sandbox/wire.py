"""The protocol between `remote` and `serve`: JSON over HTTP. Both sides check all that they read.

- POST /run with {"code": "...", "earlier": ["...", ...], "turns": 1} returns status 200 and the
  fields of a RunResult. Every other status comes with {"error": "..."}. Status 408, 429 and 5xx say
  nothing about the program, and the request may be retried; all others are final.
- GET /health returns {"ok": true, "authorized": ...}, where `authorized` says whether the server
  accepts the token of this request.

The token is sent as `Authorization: Bearer ...`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from slm_math.types import RunPython, RunResult

TOKEN_VARIABLE = "SLM_MATH_SANDBOX_TOKEN"
LARGEST_REQUEST = 1 << 20  # bytes
LARGEST_REPLY = 4 << 20  # bytes; the default limits on output allow about 0.3 MB
CONNECT_SECONDS = 10.0
FIELDS = get_type_hints(RunResult)


class AttemptFailed(Exception):
    """An attempt failed and may be retried; the server asked to `wait` so many seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Endpoint:
    """The server at a url like https://host/path; its token is in the environment's `variable`."""

    def __init__(self, url: str, variable: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the sandbox's url must be like http://host:8080")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                f"the sandbox's url must hold no secrets: put the token into {variable}"
            )
        self.url, self.variable = url.rstrip("/"), variable
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._token = read_token(variable)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        seconds: float,
        connected: Callable[[socket.socket], None],
    ) -> tuple[int, bytes, float]:
        """Send one request: (status, body, seconds to wait before a retry).

        The attempt takes at most `seconds` once connected. Calls `connected` with the socket, which
        other threads may then `hang_up`. Raises AttemptFailed.
        """
        connection = self._kind(self._host, self._port, timeout=min(CONNECT_SECONDS, seconds))
        late = threading.Event()
        clock = None
        try:
            connection.connect()
            sock = connection.sock
            assert sock is not None
            sock.settimeout(seconds)
            # the socket's own timeout never ends a reply that arrives byte by byte
            clock = threading.Timer(seconds, lambda: (late.set(), hang_up(sock)))
            clock.daemon = True
            clock.start()
            connected(sock)
            headers = {
                "Accept": "application/json",
                "Connection": "close",
                "User-Agent": "slm-math",
            }
            if body is not None:
                headers["Content-Type"] = "application/json"
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            connection.request(method, self._path + path, body, headers)
            response = connection.getresponse()
            data = response.read(LARGEST_REPLY + 1)
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise AttemptFailed(
                    f"no reply within {connection.timeout if clock is None else seconds:g} s"
                ) from None
            raise AttemptFailed(f"{type(error).__name__}: {error}") from None
        finally:
            if clock is not None:
                clock.cancel()
            connection.close()
        if late.is_set():
            raise AttemptFailed(f"no reply within {seconds:g} s")
        if len(data) > LARGEST_REPLY:
            raise AttemptFailed(f"the reply is larger than {LARGEST_REPLY >> 20} MiB")
        return response.status, data, _seconds(response.headers.get("Retry-After", ""))

    def unauthorized(self) -> str:
        """The error message for status 401."""
        sent = "does not accept the token in" if self._token else "asks for a token: set"
        return f"the server {sent} the environment variable {self.variable}"

    def clean(self, message: str) -> str:
        """An error message with the url, in one line of about 400 characters, without the token.

        A server may have quoted the token in its message.
        """
        message = f"the sandbox at {self.url}: {message}"
        if self._token:
            message = message.replace(self._token, "[token]")
        message = " ".join(message.split())
        return message if len(message) <= 400 else f"{message[:400]}..."


def read_token(variable: str) -> str:
    """The token in an environment variable, "" for none. Raises ValueError for an invalid one."""
    token = os.environ.get(variable, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError(
            f"the token in the environment variable {variable} must be printable ASCII"
        )
    return token


def hang_up(sock: socket.socket | None) -> None:
    """Shut down a connection, also while another thread reads from it."""
    if sock is not None:
        with contextlib.suppress(OSError):
            # the method of SSLSocket would remove the encryption before it shuts down
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def read_json(data: bytes) -> Any:
    """A JSON value. Raises ValueError for anything else."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_request(request: RunPython) -> bytes:
    """The body of a request; ASCII, so that lone surrogates survive."""
    return json.dumps(
        {"code": request.code, "earlier": list(request.earlier), "turns": request.turns}
    ).encode("ascii")


def read_request(data: bytes) -> RunPython:
    """The program in the body of a request. Raises ValueError that says what is wrong with it."""
    try:
        body = read_json(data)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        raise ValueError('the body must be like {"code": "print(1)", "earlier": []}')
    earlier = body.get("earlier", [])
    if not isinstance(earlier, list) or not all(isinstance(block, str) for block in earlier):
        raise ValueError("earlier must be a list of strings")
    turns = body.get("turns", 0)
    if type(turns) is not int or not 0 <= turns <= 1 + len(earlier):
        raise ValueError("turns must be a whole number from 0 to the number of blocks")
    unknown = sorted(set(body) - {"code", "earlier", "turns"})
    if unknown:
        raise ValueError(f"unknown field {unknown[0][:40]!r}")
    return RunPython(body["code"], tuple(earlier), turns)


def write_result(result: RunResult) -> bytes:
    """The body of a reply."""
    return json.dumps(asdict(result)).encode("ascii")


def read_result(data: bytes) -> RunResult:
    """The result in the body of a reply, which must have all fields.

    Raises ValueError that says what is wrong with it.
    """
    body = read_json(data)
    if not isinstance(body, dict):
        raise ValueError("not an object")
    values: dict[str, Any] = {}
    for name, kind in FIELDS.items():
        value: Any = body.get(name)
        if kind is float and type(value) is int:
            value = float(min(value, 1 << 53))
        if value.__class__ is not kind:  # True must not count as a number
            raise ValueError(f"{name} is missing or not of type {kind.__name__}")
        if isinstance(value, str):
            # lone surrogates could not be written to a file
            value = value.encode("utf-8", "replace").decode()
        elif not (0 <= value < math.inf):
            raise ValueError(f"{name} is out of range")
        values[name] = value
    return RunResult(**values)


def error_message(data: bytes) -> str:
    """The error message in the body of a reply, or the beginning of the body if there is none."""
    with contextlib.suppress(ValueError):
        body = read_json(data)
        if isinstance(body, dict) and isinstance(body.get("error"), str):
            return body["error"]
    return data[:1000].decode("utf-8", "replace")


def _seconds(header: str) -> float:
    return float(header) if header.isdecimal() and len(header) < 10 else 0.0


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
