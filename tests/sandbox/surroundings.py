"""The surroundings of a sandbox under attack: things to find and to break, and their state."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HARMLESS = ("SIGUSR1", "SIGUSR2", "SIGURG", "SIGWINCH", "SIGIO", "SIGCONT")


@dataclass(frozen=True)
class Limits:
    """The limits that were set for the target; attacks use `memory_mb` to exceed it."""

    wall_seconds: float = 4.0
    memory_mb: int = 512
    output_kb: int = 16


class HangError(BaseException):
    """run() did not return. No `except Exception` of the target may catch this."""


def processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent, state) of all processes that this one can see."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            found[int(path.parent.name)] = (int(parent), state)
    return found


def descendants(root: int) -> set[int]:
    """The processes below `root` that still run."""
    table, below = processes(), {root}
    while more := {pid for pid, (parent, _) in table.items() if parent in below} - below:
        below |= more
    return {pid for pid in below - {root} if table[pid][1] not in "ZX"}


def standing(pid: int) -> list[Any]:
    """The settings of a process that others can change: priority, processors, limits, OOM score."""
    limits = [
        resource.prlimit(pid, which) for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU)
    ]
    score = Path(f"/proc/{pid}/oom_score_adj").read_text()
    return [
        os.getpriority(os.PRIO_PROCESS, pid),
        os.sched_getaffinity(pid),
        os.sched_getscheduler(pid),
        limits,
        score,
    ]


class Host:
    """The attacked side: a secret, files, listeners and a bystander process.

    It is a context manager; start the target inside it.
    """

    def __enter__(self) -> Host:
        self.pid = os.getpid()
        self.token = "slmtok-" + secrets.token_hex(16)
        os.environ["ATTACK_SECRET"] = self.token
        self.folder = Path(tempfile.mkdtemp(prefix="attack-"))
        self.folder.chmod(0o755)
        self.secret, self.scratch = self.folder / "secret.txt", self.folder / "scratch"
        self.signals = dict.fromkeys(HARMLESS, 0)
        self.handlers = {
            name: signal.signal(getattr(signal, name), self._count) for name in HARMLESS
        }
        self.alarm = signal.signal(signal.SIGALRM, self._hang)
        self.timer = signal.getitimer(signal.ITIMER_REAL)
        # orphans of a program come to this process instead of init, so that they can be seen and
        # ended
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        self.listeners = {
            "tcp": self._listen(socket.AF_INET, ("127.0.0.1", 0)),
            "udp": self._listen(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM),
            "unix": self._listen(socket.AF_UNIX, str(self.folder / "socket")),
            "abstract": self._listen(socket.AF_UNIX, "\0" + self.folder.name),
        }
        (self.folder / "socket").chmod(0o777)
        self.bystander = self._start_bystander()
        self._reset_files()
        return self

    def __exit__(self, *_: object) -> None:
        self.bystander.kill()
        self.bystander.wait()
        for listener in self.listeners.values():
            listener.close()
        for name, handler in self.handlers.items():
            signal.signal(getattr(signal, name), handler)
        signal.signal(signal.SIGALRM, self.alarm)
        signal.setitimer(signal.ITIMER_REAL, *self.timer)
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
        shutil.rmtree(self.folder, ignore_errors=True)
        del os.environ["ATTACK_SECRET"]

    def names(self, limits: Limits) -> dict[str, Any]:
        """The names that programs can use to find their surroundings."""
        return {
            "SECRET_FILE": str(self.secret),
            "SCRATCH": str(self.scratch),
            "PORT": self.listeners["tcp"].getsockname()[1],
            "UDP": self.listeners["udp"].getsockname()[1],
            "UNIX": str(self.folder / "socket"),
            "ABSTRACT": self.folder.name,
            "HOST": self.pid,
            "BYSTANDER": self.bystander.pid,
            "LIMIT_MB": limits.memory_mb,
        }

    def traces(self) -> Iterator[str]:
        """The findings since the last call; all changes are undone for the next attack."""
        for name, listener in self.listeners.items():
            with contextlib.suppress(BlockingIOError):
                listener.recv(64) if name == "udp" else listener.accept()[0].close()
                yield f"reached the {name} listener"
        for name in [name for name, count in self.signals.items() if count]:
            yield f"this process got {name}"
            self.signals[name] = 0
        if self._files() != self.files:
            yield "a file was changed"
            self._reset_files()
        state = processes().get(self.bystander.pid, (0, "gone"))[1]
        if (
            self.bystander.poll() is not None
            or state in "tT"
            or standing(self.bystander.pid) != self.stood[0]
        ):
            yield f"the bystander was changed (state {state})"
            self.bystander.kill()
            self.bystander.wait()
            self.bystander = self._start_bystander()
        if standing(self.pid) != self.stood[1]:
            yield "this process was changed"
            self.stood[1] = standing(self.pid)

    def _count(self, number: int, _: object) -> None:
        self.signals[signal.Signals(number).name] += 1

    def _hang(self, *_: object) -> None:
        raise HangError

    def _listen(self, family: int, address: Any, kind: int = socket.SOCK_STREAM) -> socket.socket:
        listener = socket.socket(family, kind)
        listener.bind(address)
        if kind == socket.SOCK_STREAM:
            listener.listen(16)
        listener.setblocking(False)
        return listener

    def _start_bystander(self) -> subprocess.Popen[bytes]:
        started = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        self.stood = [standing(started.pid), standing(self.pid)]
        return started

    def _files(self) -> dict[str, tuple[int, ...]]:
        paths = [self.folder, *self.folder.rglob("*")]
        stats = [(path, path.lstat()) for path in paths]
        # the time of the last change of the inode also tells of modes, links and attributes
        return {
            str(path): (s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
            for path, s in stats
        }

    def _reset_files(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        self.scratch.chmod(0o777)
        for path, text in (
            (self.scratch / "existing.txt", "as it was\n"),
            (self.secret, self.token + "\n"),
        ):
            path.unlink(missing_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o666)
        self.files = self._files()
