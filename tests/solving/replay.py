"""An engine that replays what was written down, and a server of an agent on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rollout.scripted import served_by

from slm_math.agents import Agent
from slm_math.engines.base import Engine, EngineError, Request
from slm_math.engines.http import Response, request
from slm_math.solving.serve import AgentServer, listen
from slm_math.solving.service import Service
from slm_math.types import Reply


class Replay(Engine):
    """Answers the requests of each role in turn, then the last reply for ever; each reply is told
    in two parts. While `held` is not set, no request is answered.
    """

    name = "the replay engine"

    def __init__(self, replies: list[str], verifier: list[str] | None = None) -> None:
        self.replies = {"solver": replies, "verifier": verifier or replies}
        self.asked: list[Request] = []
        self.canceled: list[int] = []
        self.held = threading.Event()
        self.held.set()
        self.together = 0  # the most requests at once
        self._open: dict[int, Request] = {}
        self._next: dict[str, int] = {}

    def submit(self, request: Request) -> int:
        self.asked.append(request)
        self._open[len(self.asked)] = request
        self.together = max(self.together, len(self._open))
        return len(self.asked)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        if not self.held.wait(timeout):
            return []
        done, self._open = self._open, {}
        return [(ticket, self._reply(asked)) for ticket, asked in done.items()]

    def _reply(self, request: Request) -> Reply:
        replies = self.replies[request.role]
        number = self._next.get(request.role, 0)
        self._next[request.role] = number + 1
        text = replies[min(number, len(replies) - 1)]
        if request.progress is not None:
            request.progress(text[: len(text) // 2])
            request.progress(text)
        return Reply(text, counted=len(text.split()), asked=10)

    def cancel(self, ticket: int) -> None:
        if self._open.pop(ticket, None) is not None:
            self.canceled.append(ticket)

    @property
    def busy(self) -> int:
        return len(self._open)


@contextmanager
def serving(
    agent: Agent, engine: Engine, most: int = 64, key: str = "", **options: Any
) -> Iterator[AgentServer]:
    """A server of an agent, with the name Test."""
    service = Service(agent, served_by(engine), most=most)
    with (
        listen("127.0.0.1", 0, key) as listener,
        AgentServer(service, "Test", listener, key=key, **options) as server,
    ):
        yield server


def post(server: AgentServer, key: str = "", **body: Any) -> Response:
    """The response to a request with one problem, unless the body says otherwise."""
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    whole = {"model": "Test", "messages": messages} | body
    return request("POST", f"{server.url}/chat/completions", whole, seconds=60, key=key)


def until(happened: Callable[[], Any]) -> None:
    """Waits for what another thread does."""
    pause = threading.Event()
    for _ in range(6000):
        if happened():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen within a minute")
