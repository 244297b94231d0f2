"""A sandbox on another machine: the client of `slm_math.sandbox.serve`."""

from __future__ import annotations

import random
import socket
from typing import Any

from slm_math.sandbox import wire
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.jobs import Jobs, ProgramJob
from slm_math.types import RunResult

# A thread that looks up a host name cannot be interrupted. It ends soon and holds nothing, so
# `close` waits for it only this long.
CLOSING_SECONDS = 1.0
LONGEST_WAIT = 60.0  # seconds that a server may ask a client to wait before a retry


class RemoteSandbox(Jobs):
    """Runs Python programs on the server at `url`, at most `workers` at a time, like a `Sandbox`.

    `url` is like http://10.0.0.2:8080 or https://host/path. The token is read from the environment
    variable `token_variable` and is shown nowhere; http sends it unencrypted. `timeout_seconds` is
    the time for one attempt, including the wait for a worker of the server; a program that
    continues a session has this time for each request of the session.

    Broken connections, timeouts, status 408, 429 and 5xx, and malformed replies are retried up to
    `retries` times, after `backoff`, 2 `backoff`, 4 `backoff`, ... seconds, or later if the server
    asks for it. All other failures, and the last one, raise SandboxError, so that a failure of the
    server never looks like an error of the program.
    """

    def __init__(
        self,
        url: str,
        workers: int = 8,
        timeout_seconds: float = 60,
        retries: int = 5,
        backoff: float = 0.5,
        token_variable: str = wire.TOKEN_VARIABLE,
    ) -> None:
        if timeout_seconds <= 0 or retries < 0 or backoff < 0:
            raise ValueError("timeout_seconds must be positive, retries and backoff not negative")
        self._endpoint = wire.Endpoint(url, token_variable)
        self.url, self.timeout_seconds = self._endpoint.url, timeout_seconds
        self.retries, self.backoff = retries, backoff
        super().__init__(workers, CLOSING_SECONDS)

    def __repr__(self) -> str:
        return f"RemoteSandbox({self.url!r})"

    def identity(self) -> dict[str, Any]:
        """The settings that can change a program's result."""
        return {"url": self.url}

    def _interrupt(self, job: ProgramJob) -> None:
        wire.hang_up(job.handle)

    def _perform(self, job: ProgramJob) -> RunResult:
        body = wire.write_request(job.request)
        failure: wire.AttemptFailed | None = None
        for attempt in range(self.retries + 1):
            if failure is not None:
                pause = self.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                with self._change:
                    self._change.wait_for(
                        lambda: job.canceled, max(pause, min(failure.wait, LONGEST_WAIT))
                    )
            if job.canceled:
                raise SandboxError("canceled")
            try:
                return self._attempt(job, body)
            except wire.AttemptFailed as error:
                failure = error
            finally:
                job.handle = None
        raise SandboxError(self._endpoint.clean(f"{failure} (tried {self.retries + 1} times)"))

    def _connected(self, job: ProgramJob, sock: socket.socket) -> None:
        """Keep the socket of an attempt for `cancel`, or shut it down if the job is canceled."""
        with self._change:
            job.handle = sock
            if job.canceled:
                wire.hang_up(sock)

    def _attempt(self, job: ProgramJob, body: bytes) -> RunResult:
        seconds = self.timeout_seconds * job.request.turns
        status, data, wait = self._endpoint.send(
            "POST",
            "/run",
            body=body,
            seconds=seconds,
            connected=lambda sock: self._connected(job, sock),
        )
        if status == 200:
            try:
                return wire.read_result(data)
            except ValueError as error:
                raise wire.AttemptFailed(f"the reply is not a valid result: {error}") from None
        if status in (408, 429) or status >= 500:
            raise wire.AttemptFailed(f"status {status}: {wire.error_message(data)}", wait)
        if status == 401:
            raise SandboxError(self._endpoint.clean(self._endpoint.unauthorized()))
        raise SandboxError(self._endpoint.clean(f"status {status}: {wire.error_message(data)}"))
