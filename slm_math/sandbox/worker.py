"""One warm worker, seen from this side: started, given one program after another, replaced when it
vanishes.
"""

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

START_SECONDS = 120.0  # a start takes about a second; this is for a machine that is swamped
GRACE_SECONDS = 20.0  # that a worker may be late with its word on a program that is over its time
LEAVE_SECONDS = 2.0  # for a worker that is asked to end
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # the latter is bubblewrap's word for it
ERRORS = 4096  # bytes of a report that are kept besides the value


class Lost(Exception):
    """The machine's failure, not the program's: the worker vanished, or a child ended before its
    walls stood.
    """


class Stopped(Exception):
    """The program was to be stopped before it was sent."""


class Worker:
    """A zygote process. Its own thread starts it and must outlive it: the kernel ends it with the
    thread.

    Raises SandboxError, with what the process said, when it does not start, Lost when it was killed
    meanwhile.
    """

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], settings: dict[str, Any]
    ) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link = ours
        with theirs, _held(b"") as complaints:
            number = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)  # should 0, 1, 2 be closed here
            try:
                self.process = subprocess.Popen(
                    [*command, str(number)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    env=environment,
                    cwd="/",
                    pass_fds=[number],
                    start_new_session=True,  # Ctrl-C is for this process to handle
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
                complaints.seek(0)
                lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
                if not answer and self.process.returncode in _KILLED:
                    raise Lost("the worker was killed while it started")
                raise SandboxError(
                    answer.decode("utf-8", "replace") or (lines or ["it ended without a word"])[-1]
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
        """Run one program. Raises Lost, and Stopped when `stop` came before it began."""
        with contextlib.ExitStack() as stack:
            readers, writers = [], []
            for _ in range(child.REPORT):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                readers.append(stack.enter_context(open(reader, "rb", 0)))
                writers.append(stack.enter_context(open(writer, "wb", 0)))
            file = stack.enter_context(_held(marshal.dumps(job)))
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
            limit = [limits.output + 1, limits.output, limits.output + 1 + ERRORS]
            written, ended = self._follow(readers, limit, wall_seconds)
        status, cpu, seconds, why = zygote.ENDED.unpack(ended)
        stdout, stderr, report = map(bytes, written)
        if not report.startswith(child.READY) and why == zygote.BY_ITSELF:
            raise Lost(
                report.decode("utf-8", "replace") or f"a child ended at once (status {status})"
            )
        return Outcome(
            os.waitstatus_to_exitcode(status), cpu, seconds, why, stdout, stderr, report[1:]
        )

    def expect(self) -> None:
        """A new program comes: what was stopped before is over."""
        self._stopped = False

    def stop(self) -> None:
        """Kill the program that runs now, if one does; for other threads."""
        with self._lock, contextlib.suppress(OSError):
            self._stopped = True
            self._link.send(zygote.STOP)

    def close(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(OSError):
            self._link.send(zygote.LEAVE)  # a fork of this process may keep the link open
        self._link.close()
        try:
            self.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _follow(
        self, readers: list[Any], limit: list[int], wall_seconds: float
    ) -> tuple[list[bytearray], bytes]:
        """Read until the zygote tells the end; keep so many bytes of each pipe, stop a flood of
        output.
        """
        written, ended = [bytearray() for _ in readers], b""
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
                    buffer = written[key.data]
                    buffer.extend(chunk[: limit[key.data] - len(buffer)])
                    if key.data == 0 and len(buffer) == limit[0] and not self._stopped:
                        self.stop()
        return written, ended

    def _ending(self) -> bytes:
        try:
            ended = self._link.recv(64)
        except OSError as error:
            raise Lost(str(error)) from error
        if len(ended) != zygote.ENDED.size:
            raise Lost("the worker vanished")
        return ended


def _held(data: bytes) -> Any:
    """A nameless file in memory with these bytes."""
    file = open(os.memfd_create("program"), "w+b", 0)  # noqa: SIM115 (the caller closes it)
    file.write(data)
    file.seek(0)
    return file
