"""Control one warm worker from the side of the sandbox: start it, give it programs, close it."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import marshal
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

from slm_math.sandbox import child, zygote
from slm_math.sandbox.errors import SandboxError
from slm_math.sandbox.outcome import Limits, Outcome
from slm_math.sandbox.output import Kept

START_SECONDS = 120.0  # a start takes about a second; an overloaded machine may take longer
GRACE_SECONDS = 20.0  # how much later than the wall limit a worker may report the end of a program
LEAVE_SECONDS = 2.0  # how long a worker may take to end before it is killed
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # the latter is the status of bubblewrap
ERRORS = 4400  # bytes of a report that are kept in any case: twice the longest error


class Lost(Exception):
    """The machine failed, not the program: a worker vanished, or a child ended before its start."""


class Stopped(Exception):
    """A program was stopped before it was sent."""


class Worker:
    """A zygote process, which the kernel ends together with the thread that started it.

    Raises SandboxError with the message of the process if it does not start, and Lost if it was
    killed while it started.
    """

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], settings: dict[str, Any]
    ) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = ours
        with theirs, _memory_file(b"") as stderr:
            # 3 or more, also if 0, 1 or 2 are closed in this process
            number = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)
            try:
                self.process = subprocess.Popen(
                    [*command, str(number)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    env=environment,
                    cwd="/",
                    pass_fds=[number],
                    start_new_session=True,  # Ctrl-C must reach this process alone
                )
            except OSError as error:
                ours.close()
                raise SandboxError(f"{command[0]} does not start: {error}") from error
            finally:
                os.close(number)
            theirs.close()
            with (
                contextlib.suppress(OSError),
                open(f"/proc/{self.process.pid}/oom_score_adj", "w") as file,
            ):
                file.write("1000")
            answer = self._hello(settings)
            if answer != b"ready":
                self.close()
                stderr.seek(0)
                lines = stderr.read().decode("utf-8", "replace").strip().splitlines()
                if not answer and self.process.returncode in _KILLED:
                    raise Lost("the worker was killed while it started")
                raise SandboxError(
                    answer.decode("utf-8", "replace") or (lines or ["it ended without output"])[-1]
                )

    def _hello(self, settings: dict[str, Any]) -> bytes:
        self._link.settimeout(START_SECONDS)
        try:
            self._link.send(json.dumps(settings).encode())
            return self._link.recv(2000)
        except TimeoutError:
            return b"no answer in %d s" % START_SECONDS
        except OSError:
            return b""

    def run(
        self, job: dict[str, Any], limits: Limits, cpu_seconds: float, wall_seconds: float
    ) -> Outcome:
        """Run one program. Raises Lost, and Stopped if `stop` was called before it began."""
        with contextlib.ExitStack() as stack:
            readers, writers = [], []
            for _ in range(child.REPORT):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                readers.append(stack.enter_context(open(reader, "rb", 0)))
                writers.append(stack.enter_context(open(writer, "wb", 0)))
            file = stack.enter_context(_memory_file(marshal.dumps(job)))
            files = array.array("i", [writer.fileno() for writer in writers] + [file.fileno()])
            with self._lock:
                if self._stopped:
                    raise Stopped
                try:
                    message = zygote.JOB.pack(cpu_seconds, wall_seconds)
                    self._link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
                except OSError as error:
                    raise Lost(str(error)) from error
            for end in writers:
                end.close()
            report_most = max(limits.output, ERRORS)
            outputs = [Kept(most) for most in (limits.output, limits.output, report_most)]
            ended = self._follow(readers, outputs, limits.flood, wall_seconds)
        status, cpu, seconds, why = zygote.ENDED.unpack(ended)
        stdout, stderr, report = (each.text for each in outputs)
        if not report.startswith(child.READY) and why == zygote.BY_ITSELF:
            raise Lost(report or f"a child ended at once (status {status})")
        return Outcome(
            status=os.waitstatus_to_exitcode(status),
            cpu=cpu,
            seconds=seconds,
            why=why,
            stdout=stdout,
            stderr=stderr,
            report=report[1:],
            written=sum(each.size for each in outputs),
        )

    def expect(self) -> None:
        """Prepare for a new program: earlier calls of `stop` do not apply to it."""
        self._stopped = False

    def stop(self) -> None:
        """Kill the program that runs now, if there is one. Called by other threads."""
        with self._lock, contextlib.suppress(OSError):
            self._stopped = True
            self._link.send(zygote.STOP)

    def close(self) -> None:
        """End the worker's process and all processes that it started."""
        with contextlib.suppress(OSError):
            self._link.send(zygote.LEAVE)  # a fork of this process may keep the link open
        self._link.close()
        try:
            self.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _follow(
        self, readers: list[Any], outputs: list[Kept], flood: int, wall_seconds: float
    ) -> bytes:
        """Read the pipes, each into its `Kept`, until the zygote reports the end; returns that.

        A program that writes more than `flood` bytes, wherever it writes them, is stopped.
        """
        written, ended = 0, b""
        deadline = time.monotonic() + wall_seconds + GRACE_SECONDS
        with selectors.DefaultSelector() as selector:
            for index, reader in enumerate(readers):
                selector.register(reader, selectors.EVENT_READ, index)
            selector.register(self._link, selectors.EVENT_READ, None)
            while not ended or len(selector.get_map()) > 0:
                ready = selector.select(0 if ended else max(deadline - time.monotonic(), 0))
                if not ready:
                    if ended:
                        break
                    self.process.kill()
                    raise Lost("the worker did not answer in time")
                for key, _ in ready:
                    if key.data is None:
                        ended = self._ending()
                        selector.unregister(self._link)
                        continue
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    outputs[key.data].add(chunk)
                    written += len(chunk)
                    if written > flood and not self._stopped:
                        self.stop()
        return ended

    def _ending(self) -> bytes:
        try:
            ended = self._link.recv(64)
        except OSError as error:
            raise Lost(str(error)) from error
        if len(ended) != zygote.ENDED.size:
            raise Lost("the worker vanished")
        return ended


def _memory_file(data: bytes) -> Any:
    """A file in memory, without a name, that holds these bytes."""
    file = open(os.memfd_create("program"), "w+b", 0)  # noqa: SIM115 (the caller closes it)
    file.write(data)
    file.seek(0)
    return file
