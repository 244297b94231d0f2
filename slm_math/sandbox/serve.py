"""Run programs for other machines: the server of a `RemoteSandbox` (protocol: see `wire`)."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

from slm_math.listening import address_of, url_of
from slm_math.sandbox import wire
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.executor import Sandbox
from slm_math.sandbox.handler import Refusal, RequestHandler
from slm_math.types import RunPython, RunResult
from slm_math.visible import visible

SPARE_CONNECTIONS = 32  # for refusals and health checks, beyond those whose programs run or wait


class Runner(Protocol):
    """The part of a Sandbox that a server uses."""

    workers: int

    def start(self) -> None: ...

    def run(self, code: str, earlier: Sequence[str] = (), turns: int = 0) -> RunResult: ...

    def close(self) -> None: ...


class SandboxServer(ThreadingHTTPServer):
    """Serves `sandbox` on `host`:`port` (0 for any free port).

    At most `waiting` programs wait for a worker; further ones are refused. Raises ValueError for an
    address that other machines can reach if there is no token, and SandboxError if the server
    cannot listen.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        sandbox: Runner,
        host: str = "127.0.0.1",
        port: int = 8080,
        waiting: int = 64,
        token_variable: str = wire.TOKEN_VARIABLE,
    ) -> None:
        if waiting < 1:
            raise ValueError(f"waiting must be at least 1, got {waiting}")
        if getattr(sandbox, "tier", "") == "unsafe":
            raise ValueError('a sandbox with tier="unsafe" cannot be served to other machines')
        self.sandbox = sandbox
        self.token = wire.read_token(token_variable)
        self._room = sandbox.workers + waiting
        self._slots = threading.Semaphore(sandbox.workers)
        self._lock = threading.Lock()
        self._programs = self._connections = 0
        self._closing = False
        try:
            self.address_family, address = address_of(
                host,
                port,
                key=self.token,
                unprotected=f"a token: put one into the environment variable {token_variable}, on "
                "this machine and on those that send programs, or listen on 127.0.0.1",
            )
            super().__init__(address, RequestHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SandboxError(f"cannot listen on {host}:{port}: {reason}") from None

    @property
    def url(self) -> str:
        return url_of(self.server_address)

    def run(self, request: RunPython, gone: Callable[[], bool]) -> RunResult:
        """Run a program as soon as a worker is free, unless its client is `gone` by then.

        Raises Refusal if the server is busy or closing, or if the sandbox failed.
        """
        with self._lock:
            if self._programs >= self._room:
                raise Refusal(503, f"busy: {self._programs} programs run or wait")
            self._programs += 1
        try:
            with self._slots:
                if self._closing:
                    raise Refusal(503, "the server is closing")
                if gone():
                    raise ConnectionAbortedError
                return self.sandbox.run(request.code, request.earlier, request.turns)
        except SandboxError as error:
            reason = " ".join(str(error).split())[:400]
            print(f"sandbox: {visible(reason)}", file=sys.stderr, flush=True)
            raise Refusal(503, reason) from None
        finally:
            with self._lock:
                self._programs -= 1

    def stop(self) -> None:
        """Stop listening, and stop all programs; their clients get status 503.

        Call it after `serve_forever` has returned.
        """
        self._closing = True
        self.server_close()
        self.sandbox.close()
        deadline = time.monotonic() + 2.0
        while self._connections and time.monotonic() < deadline:
            time.sleep(0.01)

    def server_bind(self) -> None:
        TCPServer.server_bind(
            self
        )  # that of HTTPServer looks up the host's name, which can be slow

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = self._connections >= self._room + SPARE_CONNECTIONS
            self._connections += not full
        if full:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            with self._lock:
                self._connections -= 1
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):  # clients come and go
            reason = visible(f"{type(error).__name__}: {error}")
            print(f"sandbox: {reason}", file=sys.stderr, flush=True)


def serve(
    sandbox: Sandbox | None = None, host: str = "127.0.0.1", port: int = 8080, waiting: int = 64
) -> None:
    """Run programs for other machines, which set `sandbox` to the url of this server.

    Args:
        sandbox: the sandbox that runs the programs; by default one with the default limits.
        host: address to listen on. An address that other machines can reach needs a token in the
            environment variable SLM_MATH_SANDBOX_TOKEN. Without a token, all users of this machine
            can run programs.
        port: port to listen on.
        waiting: number of programs that may wait for a worker.
    """
    sandbox = sandbox or Sandbox()
    with contextlib.ExitStack() as stack:
        stack.callback(sandbox.close)
        server = stack.enter_context(SandboxServer(sandbox, host, port, waiting))
        sandbox.start()  # fail now if programs cannot run
        stack.callback(server.stop)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
        token = "token required" if server.token else "no token, this machine only"
        print(
            f"sandbox: {server.url}, {sandbox.workers} workers, {token}; stop it with Ctrl-C",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
