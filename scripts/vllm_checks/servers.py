"""`vllm serve` processes, started by scripts/serve_vllm.sh and killed at will."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from slm_math.engines.base import EngineError
from slm_math.engines.http import TransportError, request
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.types import Reply
from vllm_checks.subject import CONTEXT, NATS, Measurement, Subject, gap, requests

SCRIPT = Path(__file__).resolve().parents[1] / "serve_vllm.sh"


class ServerProcess:
    """One server of a model folder on a free port; `weights` is the script's WEIGHTS, file or
    adapters, and `more` are arguments of `vllm serve`.
    """

    def __init__(self, folder: Path, weights: str, log: Path, *more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder, self.weights, self.log, self.more = folder, weights, log, more
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        own = {
            "VENV": sys.prefix,
            "PORT": self.port,
            "CONTEXT": CONTEXT,
            "WEIGHTS": self.weights,
            "RANK": 8,
        }
        env = os.environ | {name: str(value) for name, value in own.items()}
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"  # vLLM in this process has turned it off here
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", str(SCRIPT), str(self.folder), *self.more],
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float = 240) -> None:
        """Waits until the server is up. Raises RuntimeError with the end of its log otherwise."""
        assert self.process is not None
        end = time.monotonic() + seconds
        while True:
            with suppress(TransportError):
                if request("GET", f"{self.url}/health", seconds=5).status == 200:
                    return
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(
                    f"{self.url} did not come up: {self.log.read_text(errors='replace')[-1500:]}"
                )
            time.sleep(0.3)

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def started(folder: Path, weights: str, n: int, logs: Path) -> list[ServerProcess]:
    """Starts `n` servers at the same time and waits until all are up."""
    servers = [
        ServerProcess(folder, weights, logs / f"{folder.name}-{weights}-{i}.log") for i in range(n)
    ]
    for server in servers:
        server.start()
    for server in servers:
        server.wait()
    return servers


def served(servers: Sequence[ServerProcess], folder: Path) -> VLLMServers:
    """The engine of these servers; weights are passed through files in `folder`."""
    engine = VLLMServers([server.url for server in servers], concurrency=64, timeout=120)
    engine.attach_policy(None, frozenset(), folder, "float32")  # type: ignore[arg-type]
    return engine


def under_way(s: Subject, n: int) -> tuple[list[int], dict[int, Reply | EngineError]]:
    """Tickets of `n` long requests and a few short ones, and the results so far when the first
    requests have finished.
    """
    asked = requests(4, 15, "solver", max_new_tokens=2)
    asked += requests(n, 16, "solver", max_new_tokens=400)
    tickets, results = [s.engine.submit(request) for request in asked], {}
    while not results:
        results |= dict(s.engine.poll(1.0))
    return tickets, results


def killed(s: Subject, servers: Sequence[ServerProcess]) -> Iterator[Measurement]:
    """kill -9 in the middle of a rollout, and a restart of the same server, which then has the
    weights of its folder.
    """
    with s.restored():
        s.perturb()
        s.send()
        tickets, results = under_way(s, 60)
        servers[0].kill()
        start = time.monotonic()
        servers[0].start()
        while len(results) < len(tickets) and time.monotonic() < start + 280:
            results |= dict(s.engine.poll(1.0))
            if len(results) == len(tickets):
                break
        seconds = time.monotonic() - start
        whole = [reply for reply in results.values() if isinstance(reply, Reply)]
        yield Measurement(
            "killed and started again: requests without a reply, of 64", 64 - len(whole), most=0
        )
        yield Measurement(
            "killed and started again: max |d| (nats)", gap(s.model, *whole), most=NATS
        )
        versions = sum(reply.version != s.version for reply in whole)
        yield Measurement("killed and started again: replies of another version", versions, most=0)
        yield Measurement("killed and started again: until all are answered (s)", seconds, most=240)
        for server in servers:
            server.wait()


def lost(
    s: Subject, servers: Sequence[ServerProcess], patience: float = 5
) -> Iterator[Measurement]:
    """kill -9 of all servers, without a restart."""
    s.engine.patience = patience  # type: ignore[attr-defined]
    under_way(s, 60)
    for server in servers:
        server.kill()
    start, message = time.monotonic(), ""
    while not message and time.monotonic() < start + 60:
        try:
            s.engine.poll(1.0)
        except EngineError as error:
            message = str(error)
    seconds = time.monotonic() - start
    yield Measurement(
        "killed for good, patience 5: until EngineError (s)", seconds, least=patience, most=30
    )
    yield Measurement(
        "killed for good: the error names the servers",
        all(x.url in message for x in servers),
        least=1,
    )
    closing = time.monotonic()
    s.engine.close()
    yield Measurement(
        "killed for good: until the engine is closed (s)", time.monotonic() - closing, most=5
    )
