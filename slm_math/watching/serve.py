"""`slm-math watch`: a page on this machine that follows a training run."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from markupsafe import Markup

from slm_math.listening import address_of, names_this_machine, url_of
from slm_math.report.colors import COLORS
from slm_math.report.document import hashed, own, policy, rendered
from slm_math.stopping import say
from slm_math.visible import visible
from slm_math.watching.run import WatchedRun

HOST = "127.0.0.1"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Answer = Callable[[Mapping[str, str]], Any]


class WatchServer(ThreadingHTTPServer):
    """Serves the page of a run, and what it asks, to this machine alone."""

    daemon_threads = True

    def __init__(self, run: WatchedRun, port: int = 0) -> None:
        _, address = address_of(HOST, port, key="", unprotected="a key")
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise OSError(f"cannot listen on {HOST}:{port}: {error.strerror or error}") from None
        self.url = url_of(self.server_address)
        self.answers: dict[str, Answer] = {
            "/state": run.state,
            "/step": run.step,
            "/problems": run.problems,
            "/problem": run.problem,
            "/evaluation": run.evaluation,
            "/transcript": run.transcript,
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: WatchServer  # type: ignore[assignment]
    server_version = "slm-math"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60.0  # seconds in which a client sends its request

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not names_this_machine(self.headers.get_all("Host") or []):
            self._error(HTTPStatus.FORBIDDEN, f"only {HOST} and localhost are served")
        elif address.path == "/":
            text, rules = document()
            self._send(text.encode(), "text/html; charset=utf-8", policy=rules)
        elif address.path in self.server.answers:
            self._answer(self.server.answers[address.path], dict(parse_qsl(address.query)))
        else:
            self._error(HTTPStatus.NOT_FOUND, "there is no such page")

    def _refuse(self) -> None:
        self.close_connection = True  # what else the request has is not read
        self._error(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is served", Allow="GET")

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _answer(self, answer: Answer, asked: Mapping[str, str]) -> None:
        try:
            text = json.dumps(answer(asked), allow_nan=False)
        except KeyError as error:
            self._error(HTTPStatus.NOT_FOUND, f"there is no {error}")
        except (ValueError, OSError) as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:  # a bug of the server, not of the request
            say(visible(f"watch: {type(error).__name__}: {error}"))
            self._error(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        else:
            self._send(text.encode(), "application/json")

    def _error(self, status: HTTPStatus, text: str, **headers: str) -> None:
        body = json.dumps({"error": visible(text)}).encode()
        self._send(body, "application/json", status=status, **headers)

    def _send(
        self,
        body: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        policy: str = "default-src 'none'",
        **headers: str,
    ) -> None:
        self.send_response(status)
        own_headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        rules = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
        for name, value in (own_headers | HEADERS | rules | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A page asks every second: its requests are no news."""


@cache
def document() -> tuple[str, str]:
    """The page, and its content security policy."""
    package = "slm_math.watching"
    shades = ";".join(f"--color-{number}:{shade}" for number, shade in enumerate(COLORS))
    style = f":root{{{shades}}}\n{own('page.css')}\n{own('watch.css', package)}"
    script = "\n".join(own(name, package) for name in ("draw.js", "lists.js", "watch.js"))
    rules = policy(script, style=hashed(style), connect="'self'")
    values = {"policy": rules, "style": Markup(style), "script": Markup(script)}
    return rendered(own("watch.html.jinja", package), values), rules


def watch(run: str, port: int = 0) -> None:
    """Serves a page on this machine that follows a training run, while it runs or afterwards:
    `slm-math watch RUN`.

    Args:
        run: folder of a run of `slm-math fit`.
        port: port of 127.0.0.1 to listen on; by default any free one.
    """
    watched = WatchedRun(Path(run))
    with WatchServer(watched, port) as server, contextlib.suppress(KeyboardInterrupt):
        # while somebody opens the page
        threading.Thread(target=watched.catch_up, name="catch up", daemon=True).start()
        print(visible(f"watching {run} at {server.url}; stop it with Ctrl-C"), flush=True)
        server.serve_forever()
    print("\nstopped watching")
