"""Runs programs that a model wrote: each in a process of its own, with limits on time, memory, output and rights.

What a program cannot do: change a file, use the network, start a process or thread, signal others, see the
environment, outlive its time, or pass anything on to the next program. Where the kernel has Landlock (Linux 5.13 on,
unless switched off) it can read Python, the packages named in `PACKAGES`, the system's libraries and nothing else;
without Landlock it can read every file that this user can. Not stopped: bugs in the kernel, side channels, and a
program that uses all of its share of time and memory on purpose.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from slm_math.sandbox import driver
from slm_math.types import RunPython, RunResult

PACKAGES = ("sympy", "mpmath", "numpy", "scipy")
STARTUP_SECONDS = 20.0  # a start takes 0.03 s; this is for a machine that is swamped
REPORT_BYTES = 8192


class SandboxError(RuntimeError):
    """The sandbox itself failed; says nothing about the program."""


@dataclass
class Job:
    """One program on its way through the sandbox."""

    ticket: int
    code: str
    awaited: bool = False  # by `run`, so `poll` leaves it alone
    cancelled: bool = False
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Output:
    """What a process wrote, cut at the limits, and why it was stopped ("" when it ended by itself)."""

    stdout: bytearray = field(default_factory=bytearray)
    report: bytearray = field(default_factory=bytearray)
    stopped: str = ""


class Sandbox:
    """Runs Python programs side by side, `workers` at a time, on threads of its own.

    Limits per program: `cpu_seconds` of processor time, `wall_seconds` from its start (for sleepers: give a loaded
    machine twice the processor time and more), `memory_mb` MiB of address space, `output_kb` KiB of output. The same
    program gives the same output: hashes and random numbers have fixed seeds. Raises SandboxError where programs
    cannot be confined (see `unavailable`).
    """

    def __init__(
        self,
        workers: int = 2,
        cpu_seconds: float = 5,
        wall_seconds: float = 12,
        memory_mb: int = 1024,
        output_kb: int = 16,
    ) -> None:
        reason = self.unavailable()
        if reason is not None:
            raise SandboxError(reason)
        if workers < 1 or min(cpu_seconds, wall_seconds, memory_mb, output_kb) <= 0:
            raise ValueError("workers and every limit of the sandbox must be positive")
        self.workers = workers
        self.cpu_seconds, self.wall_seconds = cpu_seconds, wall_seconds
        self.memory_mb, self.output_kb = memory_mb, output_kb
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: dict[int, Job] = {}
        self._done: dict[int, RunResult | SandboxError] = {}
        self._threads: list[threading.Thread] = []
        self._tickets = 0
        self._closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="slm-math-", ignore_cleanup_errors=True)
        self._rights = _rights(self._folder.name)

    @staticmethod
    def unavailable() -> str | None:
        """One line saying why programs cannot be run here, or None when they can."""
        system, machine = platform.system(), platform.machine()
        if system != "Linux" or machine not in ("x86_64", "aarch64"):
            return f"running a model's programs needs Linux on x86-64 or arm64 (this is {system} on {machine})"
        return None

    def submit(self, request: RunPython) -> int:
        """Queue a program; returns its ticket."""
        return self._enqueue(request.code).ticket

    def poll(self, timeout: float = 0.0) -> list[tuple[int, RunResult]]:
        """What has finished since the last call; waits at most `timeout` seconds if nothing has.

        Raises SandboxError when a program could not be started, even at a second try; its ticket is then closed.
        """
        with self._change:
            self._change.wait_for(lambda: self._ready() or not self.busy, timeout)
            results: list[tuple[int, RunResult]] = []
            for ticket in self._ready():
                result = self._done[ticket]
                if isinstance(result, SandboxError):
                    if results:
                        break  # hand out what went well; the next call raises
                    self._forget(ticket)
                    raise result
                self._forget(ticket)
                results.append((ticket, result))
            return results

    def cancel(self, ticket: int) -> None:
        """Forget a program, and stop it if it runs; its result is never returned."""
        with self._change:
            job = self._jobs.get(ticket)
            if job is None:
                return
            self._forget(ticket)
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            if job.process is not None:
                _kill(job.process)

    def run(self, code: str) -> RunResult:
        """Run one program and wait for it. Raises SandboxError when it could not be started."""
        job = self._enqueue(code, awaited=True)
        try:
            with self._change:
                self._change.wait_for(lambda: job.ticket in self._done or job.cancelled)
                result = self._done.get(job.ticket, SandboxError("the sandbox was closed"))
        finally:
            self.cancel(job.ticket)  # also after Ctrl-C
        if isinstance(result, SandboxError):
            raise result
        return result

    @property
    def busy(self) -> int:
        """The number of programs whose result has not been handed out."""
        return len(self._jobs)

    def close(self) -> None:
        """Stop everything that runs; afterwards no process is left."""
        with self._change:
            self._closed = True
            for ticket in list(self._jobs):
                self.cancel(ticket)
            self._change.notify_all()
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, code: str, awaited: bool = False) -> Job:
        with self._change:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            self._tickets += 1
            job = self._jobs[self._tickets] = Job(self._tickets, code, awaited)
            self._waiting.append(job)
            if len(self._threads) < self.workers:
                thread = threading.Thread(target=self._work, name="sandbox", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._change.notify_all()
            return job

    def _ready(self) -> list[int]:
        return [ticket for ticket in self._done if not self._jobs[ticket].awaited]

    def _forget(self, ticket: int) -> None:
        self._jobs.pop(ticket, None)
        self._done.pop(ticket, None)
        self._change.notify_all()

    def _work(self) -> None:
        """A thread's life. It outlives its children: the kernel kills them when the thread that made them ends."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._waiting.popleft()
            result = self._try(job)
            if isinstance(result, SandboxError) and not job.cancelled:
                time.sleep(0.1)  # out of processes or memory for a moment, perhaps
                result = self._try(job)
            with self._change:
                if not job.cancelled:
                    self._done[job.ticket] = result
                self._change.notify_all()

    def _try(self, job: Job) -> RunResult | SandboxError:
        try:
            return self._attempt(job)
        except SandboxError as error:
            return error
        except Exception as error:  # a thread that dies silently would leave its caller waiting for ever
            return SandboxError(f"the sandbox could not run a program: {type(error).__name__}: {error}")

    def _attempt(self, job: Job) -> RunResult:
        """Run the program once. Raises when it fails before the program's first line."""
        started = time.monotonic()
        with tempfile.TemporaryFile() as stdin:
            stdin.write(json.dumps({"code": job.code, **self._rights, **self._limits()}).encode())
            stdin.seek(0)
            process = self._start(job, stdin)
        output = Output()
        try:
            self._watch(process, output)
        finally:
            with self._change:
                job.process = None  # from here on its number may become another process's
            _kill(process)
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]
            process.stderr.close()  # type: ignore[union-attr]
        before, ready, error = bytes(output.report).partition(driver.READY)
        if not ready:
            lines = before.decode("utf-8", "replace").strip().splitlines()
            why = lines[-1] if lines else output.stopped or f"exit status {process.returncode}"
            raise SandboxError(f"the sandbox could not start a program: {why}")
        return self._result(output, error.decode("utf-8", "replace"), process.returncode, time.monotonic() - started)

    def _limits(self) -> dict[str, float]:
        return {"cpu_seconds": self.cpu_seconds, "memory": self.memory_mb << 20, "parent": os.getpid()}

    def _start(self, job: Job, stdin: IO[bytes]) -> subprocess.Popen[bytes]:
        # -I would ignore PYTHONHASHSEED; the environment holds nothing else to be ignored
        command = [sys.executable, "-S", "-s", "-P", "-B", "-X", "utf8", driver.__file__]
        environment = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self._folder.name,
            start_new_session=True,
        )
        with self._change:
            job.process = process
            if job.cancelled:
                _kill(process)
        return process

    def _watch(self, process: subprocess.Popen[bytes], output: Output) -> None:
        """Read until the process ends or breaks a limit of wall time or output."""
        deadline = time.monotonic() + STARTUP_SECONDS
        running = False
        limit = self.output_kb << 10
        with selectors.DefaultSelector() as pipes:
            pipes.register(process.stdout, selectors.EVENT_READ, (output.stdout, limit + 1))  # type: ignore[arg-type]
            pipes.register(process.stderr, selectors.EVENT_READ, (output.report, REPORT_BYTES))  # type: ignore[arg-type]
            while not _ended(process):
                left = deadline - time.monotonic()
                if left <= 0:
                    output.stopped = f"more than {self.wall_seconds if running else STARTUP_SECONDS:g} s"
                    return
                # with both pipes closed the process is about to end, or hides: look again soon
                _read(pipes, min(left, 1.0) if pipes.get_map() else 0.002)
                if not running and driver.READY in output.report:
                    running, deadline = True, time.monotonic() + self.wall_seconds
                if len(output.stdout) > limit:
                    output.stopped = f"more than {self.output_kb} KB of output"
                    return
            while pipes.get_map() and _read(pipes, 0.0):
                pass

    def _result(self, output: Output, error: str, status: int, seconds: float) -> RunResult:
        limit = self.output_kb << 10
        truncated = len(output.stdout) > limit
        timed_out = False
        if truncated:
            error = f"OutputError: the program was stopped after {self.output_kb} KB of output"
        elif output.stopped:
            error, timed_out = f"TimeoutError: the program took {output.stopped}", True
        elif status in (-signal.SIGPROF, -signal.SIGXCPU):
            error, timed_out = f"TimeoutError: the program took more than {self.cpu_seconds:g} s", True
        elif status == -signal.SIGKILL:
            error = "the program was killed: it used too much time or memory"
        elif status < 0:
            error = f"the program crashed ({signal.Signals(-status).name})"
        elif status > 0:
            error = " ".join(error[:400].split()) or f"the program ended with status {status}"
        ok = status == 0 and not truncated and not output.stopped
        return RunResult(
            ok=ok,
            stdout=bytes(output.stdout[:limit]).decode("utf-8", "replace"),
            error="" if ok else error,
            timed_out=timed_out,
            truncated=truncated,
            seconds=seconds,
        )


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """True when the process has ended; leaves it to be reaped, so that its number stays its own."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that has not been reaped, with everything in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(pipes: selectors.BaseSelector, timeout: float) -> bool:
    """Append what has arrived to its buffer, up to the buffer's limit; False when nothing had."""
    events = pipes.select(timeout)
    for key, _ in events:
        chunk = os.read(key.fd, 65536)
        if not chunk:
            pipes.unregister(key.fileobj)
            continue
        buffer, limit = key.data
        buffer.extend(chunk[: limit - len(buffer)])
    return bool(events)


def _rights(folder: str) -> dict[str, Any]:
    """What a program may import and read, and which folders its error messages should not show."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    readable = [p for p in stdlib.iterdir() if p.name not in ("site-packages", "dist-packages", "__pycache__")]
    packages: dict[str, str] = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            home = Path(spec.origin).parent
            packages[name] = str(home.parent)
            readable += [home, home.with_name(f"{name}.libs")]
    system = sysconfig.get_config_var("MULTIARCH") or "."
    libraries = ["/lib64", "/usr/lib64", f"/lib/{system}", f"/usr/lib/{system}"]
    libraries += glob.glob(f"{sys.base_prefix}/lib/*.so*")
    others = [folder, "/dev/null", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo"]
    listable = {str(stdlib), *packages.values()}
    return {
        "packages": packages,
        "readable": [*map(str, readable), *libraries, *others],
        "listable": sorted(listable),
        "hidden": sorted({folder, *listable}, key=len, reverse=True),
    }
