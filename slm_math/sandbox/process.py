"""One program in a process of its own: started, watched, stopped at its limits."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import marshal
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slm_math.sandbox import driver
from slm_math.types import RunResult

PACKAGES = ("sympy", "mpmath", "numpy", "scipy")
STARTUP_SECONDS = 20.0  # a start takes 0.03 s; this is for a machine that is swamped
REPORT_BYTES = 8192


class SandboxError(RuntimeError):
    """The sandbox itself failed; says nothing about the program."""


@dataclass(frozen=True)
class Limits:
    """What one program may use: processor and wall seconds, MiB of address space, KiB of output."""

    cpu_seconds: float
    wall_seconds: float
    memory_mb: int
    output_kb: int

    def __post_init__(self) -> None:
        if min(self.cpu_seconds, self.wall_seconds, self.memory_mb, self.output_kb) <= 0:
            raise ValueError("every limit of the sandbox must be positive")


@dataclass
class Output:
    """What a process wrote, cut at the limits, and why it was stopped ("" when it ended by itself)."""

    stdout: bytearray = field(default_factory=bytearray)
    report: bytearray = field(default_factory=bytearray)
    stopped: str = ""


class Program:
    """A program to run once, in `folder`, with the `rights` made for it."""

    def __init__(self, code: str, limits: Limits, folder: str, rights: dict[str, Any]) -> None:
        self.code = code
        self.limits = limits
        self.folder = folder
        self.rights = rights
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None  # while its number is surely its own
        self._killed = False

    def run(self) -> RunResult:
        """Run to the end or to a limit. Raises SandboxError or OSError if it fails before the program's first line."""
        started = time.monotonic()
        process = self._start()
        output = Output()
        try:
            self._watch(process, output)
        finally:
            with self._lock:
                self._process = None
            _kill_group(process)
            process.communicate()
        before, ready, error = bytes(output.report).partition(driver.READY)
        if not ready:
            lines = before.decode("utf-8", "replace").strip().splitlines()
            why = lines[-1] if lines else output.stopped or f"exit status {process.returncode}"
            raise SandboxError(f"the sandbox could not start a program: {why}")
        return self._result(output, error.decode("utf-8", "replace"), process.returncode, time.monotonic() - started)

    def kill(self) -> None:
        """Stop the program, now or as soon as it starts; for other threads."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                _kill_group(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        # -I would ignore PYTHONHASHSEED; there is nothing else in the environment to be ignored
        command = [sys.executable, "-S", "-s", "-P", "-B", "-X", "utf8", driver.__file__]
        environment = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        limits = {"cpu_seconds": self.limits.cpu_seconds, "memory": self.limits.memory_mb << 20}
        job = {"code": self.code, "parent": os.getpid(), **limits, **self.rights}
        with tempfile.TemporaryFile() as stdin, self._lock:
            stdin.write(marshal.dumps(job))
            stdin.seek(0)
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
            self._process = process
            if self._killed:
                _kill_group(process)
        return process

    def _watch(self, process: subprocess.Popen[bytes], output: Output) -> None:
        """Read until the process ends or breaks a limit of wall time or output."""
        assert process.stdout is not None
        assert process.stderr is not None
        allowed, limit = STARTUP_SECONDS, self.limits.output_kb << 10
        deadline = time.monotonic() + allowed
        running = False
        with selectors.DefaultSelector() as pipes:
            pipes.register(process.stdout, selectors.EVENT_READ, (output.stdout, limit + 1))
            pipes.register(process.stderr, selectors.EVENT_READ, (output.report, REPORT_BYTES))
            while not _ended(process):
                left = deadline - time.monotonic()
                if left <= 0:
                    output.stopped = f"more than {allowed:g} s"
                    return
                # with both pipes closed the process is about to end, or hides: look again soon
                _read(pipes, min(left, 1.0) if pipes.get_map() else 0.002)
                if not running and driver.READY in output.report:
                    running, allowed = True, self.limits.wall_seconds
                    deadline = time.monotonic() + allowed
                if len(output.stdout) > limit:
                    return
            while pipes.get_map() and _read(pipes, 0.0):
                pass

    def _result(self, output: Output, error: str, status: int, seconds: float) -> RunResult:
        """The result as a model gets to see it; `status` is the exit status, or minus the signal that ended it."""
        limits = self.limits
        truncated = len(output.stdout) > limits.output_kb << 10
        timed_out = bool(output.stopped) or status in (-signal.SIGPROF, -signal.SIGXCPU)
        if truncated:
            error = f"OutputError: the program was stopped after {limits.output_kb} KB of output"
        elif timed_out:
            error = f"TimeoutError: the program took {output.stopped or f'more than {limits.cpu_seconds:g} s'}"
        elif status == -signal.SIGKILL:
            error = "the program was killed: it used too much time or memory"
        elif status < 0:
            error = f"the program crashed ({signal.Signals(-status).name})"
        elif status > 0:
            error = " ".join(error[:400].split()) or f"the program ended with status {status}"
        ok = status == 0 and not truncated and not timed_out
        shown = bytes(output.stdout[: limits.output_kb << 10]).decode("utf-8", "replace")
        return RunResult(ok, shown, "" if ok else error, timed_out, truncated, seconds)


def rights(folder: str) -> dict[str, Any]:
    """What a program may import and read, and which folders its error messages should not show."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    readable = [path for path in stdlib.iterdir() if path.name not in ("site-packages", "dist-packages")]
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


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """True when the process has ended; leaves it to be reaped, so that its number stays its own."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
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
