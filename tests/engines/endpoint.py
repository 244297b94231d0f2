"""An OpenAI-compatible server that answers as a test wants."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slm_math.engines.base import Request
from slm_math.engines.openai import OpenAIEngine
from slm_math.types import Sampling, user

KEY = "sk-very-secret-0123456789"


def completion(text: str, finish: str = "stop", **message: object) -> dict:
    return {
        "choices": [
            {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        ]
    }


class ChatServer(ThreadingHTTPServer):
    """Answers by `script(number of the request, body)` -> (status, body, headers); keeps what it
    was asked.
    """

    daemon_threads = True

    def __init__(self, script) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.times: list[float] = []
        self.now = self.most = self.sent = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.headers.append({**self.headers, "path": self.path})
            server.times.append(time.monotonic())
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            status, answer, headers = server.script(number, body)
        finally:
            with server.lock:
                server.now -= 1
        if status is None:  # hang up without a word
            self.close_connection = True
            return
        if isinstance(answer, Iterator):  # chunks of unknown number
            self.close_connection = True
            self.send_response(status)
            self.end_headers()
            for chunk in answer:
                self.wfile.write(chunk)
                server.sent += len(chunk)
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def in_turn(*answers):
    """A script that gives one answer after the other, then the last one for ever."""
    return lambda number, _: (*answers[min(number, len(answers) - 1)], {})[:3]


OK = (200, completion("four"))


def ask(engine: OpenAIEngine, chat=None, sampling: Sampling | None = None, **options):
    """The result of one request."""
    ticket = engine.submit(Request(chat or user("2 + 2?"), sampling or Sampling(), **options))
    [(done, result)] = engine.poll(120)
    assert done == ticket
    assert engine.busy == 0
    return result
