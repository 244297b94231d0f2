"""The process of a warm worker: load the libraries once, then fork one child per program.

This file runs as a script. It never reads a program or its output: the sandbox sends the ends of
pipes, the zygote hands them to the child, and afterwards it reports how the child ended. So no
program can forge that report or pass anything on to the next program.

The child for the next program is forked ahead, while the program before it runs. It has seen
nothing but the libraries, holds no file of any program, and waits behind all walls but the last for
the files of its own. The last wall, the filter, forbids receiving files, so it follows then, before
the first byte of the program is read. The times of a program count from the message that brings it.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import functools
import gc
import importlib.util
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType

JOB = struct.Struct("=dd")  # limits: processor seconds, wall seconds
# wait status, processor seconds, wall seconds, why the zygote killed the child
ENDED = struct.Struct("=idd1s")
STOP, LEAVE = b"stop", b"leave"
BY_CPU, BY_CLOCK, BY_REQUEST, BY_ITSELF = b"c", b"w", b"r", b" "
CHILD_FILES = 4  # output, errors, report, job
NOWHERE = "/dev/null"  # one more open file of the child, for output that is discarded
LINK = CHILD_FILES + 2  # the number of the link of a waiting child to its zygote


def main() -> None:
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        # the process that started this one may have ignored signals
        if signal.getsignal(number) == signal.SIG_IGN and number != signal.SIGPIPE:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.environ.pop("LD_LIBRARY_PATH", None)
    link = socket.socket(fileno=int(sys.argv[1]))
    settings = json.loads(link.recv(1 << 20))
    try:
        boundary, child, preload = (_sibling(name) for name in ("boundary", "child", "preload"))
        if settings["parent"]:
            boundary.die_with(settings["parent"])
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if memory runs out, the kernel should kill programs first
        with _no_fork_functions():
            preload.load(
                settings["packages"], settings["modules"], settings["readable"] is not None
            )
        boundary.give_up_privileges()
        limit = address_space() + settings["memory"]
        landlock, readable = settings["landlock"], settings["readable"]
        calls = boundary.Filter(readable is not None)
        nowhere = os.open(NOWHERE, os.O_WRONLY)
        sys.argv[:], sys.executable, sys.prefix, sys.exec_prefix = [""], "", "/", "/"
        empty, other = os.pipe()
        os.close(other)
        os.dup2(empty, 0)
        preload.settle()
        del settings
    except BaseException as error:
        link.send(f"{type(error).__name__}: {error}".encode()[:1000])
        raise
    gc.collect()
    gc.disable()
    preload.use_huge_pages()
    gc.freeze()  # children share this memory as long as no collection touches it

    parent = os.getpid()

    def enter() -> None:
        """Put up the walls, wait for a program, and run it. Called in a child."""
        try:
            boundary.die_with(parent)
            boundary.lock(limit, landlock=landlock, reading=readable, calls=calls, meanwhile=_take)
            # programs are short: less frequent collections save a tenth of sympy's time
            gc.set_threshold(50_000, 20, 100)
            gc.enable()
            child.main()
        except BaseException as error:
            with contextlib.suppress(BaseException):
                _take()  # whoever asks next is told
                os.write(child.REPORT, f"{type(error).__name__}: {error}".encode()[:1000])

    Loop(link, lambda: Child(enter, nowhere)).run()
    os._exit(0)


class Child:
    """A forked process in which `enter` waits for a program.

    Raises OSError if there can be no further process.
    """

    def __init__(self, enter: Callable[[], None], nowhere: int) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.pid = os.fork()
            if self.pid == 0:
                try:
                    _keep(nowhere, theirs.fileno())
                    enter()
                finally:
                    os._exit(70)
        # the kernel's number for the clock of a process's processor time
        self._clock = (~self.pid << 3) | 2

    @property
    def ended(self) -> bool:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    @property
    def used(self) -> float:
        """The processor seconds used so far."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # it has ended, or the kernel lacks the clock: RLIMIT_CPU still holds
            return 0.0

    def begin(self, message: bytes, files: list[int]) -> None:
        """Hand over the files of a program, and its limits."""
        with self._link, contextlib.suppress(OSError):  # if it has ended, `finish` says so
            rights = array.array("i", files)
            self._link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def finish(self) -> tuple[int, float]:
        """Wait for the end; returns the wait status and all processor seconds."""
        self._link.close()
        _, status, used = os.wait4(self.pid, 0)
        return status, used.ru_utime + used.ru_stime


class Loop:
    """Runs program after program, each in a child of its own, until the sandbox says `LEAVE`."""

    def __init__(self, link: socket.socket, fork: Callable[[], Child]) -> None:
        self.link, self.fork = link, fork
        self.waiting: Child | None = None
        self.running: Child | None = None

    def run(self) -> None:
        try:
            self.waiting = self.fork()
            self.link.send(b"ready")
            while True:
                message, files = _receive(self.link)
                if message in (b"", LEAVE):
                    return
                if len(files) == CHILD_FILES and message != STOP:
                    self.link.send(self._one(message, files))
                # else it is a late request to stop a program that has ended
        except Left:
            return
        finally:
            for child in (self.running, self.waiting):
                if child is not None:
                    child.kill()
                    child.finish()

    def _one(self, message: bytes, files: list[int]) -> bytes:
        """Run one program; returns the report on its end."""
        if self.waiting is not None and self.waiting.ended:  # the machine killed it
            self.waiting.finish()
            self.waiting = None
        child = self.running = self.waiting or self.fork()
        self.waiting = None
        before, start = child.used, time.monotonic()
        child.begin(message, files)
        for file in files:
            os.close(file)  # before the next fork, which must not see them
        with contextlib.suppress(OSError):  # then it is forked when it is needed
            self.waiting = self.fork()
        why = watch(self.link, child, start, *JOB.unpack(message), before=before)
        status, used = child.finish()
        self.running = None
        return ENDED.pack(status, max(used - before, 0.0), time.monotonic() - start, why)


class Left(Exception):
    """The sandbox has closed its end of the link."""


def watch(
    link: socket.socket,
    child: Child,
    start: float,
    cpu_seconds: float,
    seconds: float,
    before: float,
) -> bytes:
    """Wait for the end of a child, or kill it at a limit or on request; returns the reason.

    The times count from `start` on the monotonic clock, and from `before` on the child's own.
    Raises Left.
    """
    deadline = start + seconds
    poller = select.poll()
    poller.register(link, select.POLLIN)
    try:
        ended = os.pidfd_open(child.pid)
        poller.register(ended, select.POLLIN)
    except OSError:  # an old kernel: poll often instead
        ended = None
    try:
        while not child.ended:
            left = cpu_seconds + before - child.used
            wall = deadline - time.monotonic()
            if left <= 0 or wall <= 0:
                child.kill()
                return BY_CPU if left <= 0 else BY_CLOCK
            wait = max(min(left, wall), 0.001) if ended is not None else 0.002
            for fd, _ in poller.poll(wait * 1000):
                if fd == link.fileno():
                    message = link.recv(64)
                    if message in (b"", LEAVE):
                        raise Left
                    if message == STOP:
                        child.kill()
                        return BY_REQUEST
        return BY_ITSELF
    finally:
        if ended is not None:
            os.close(ended)


def address_space() -> int:
    """The bytes of address space that this process uses: the least limit that allows one more page.

    /proc, which would show it, does not exist everywhere.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 1 << 46
    while high - low > 1 << 20:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
        try:
            mmap.mmap(-1, mmap.PAGESIZE).close()
            high = middle
        except OSError:
            low = middle
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return high


@contextlib.contextmanager
def _no_fork_functions() -> Iterator[None]:
    """Let no library leave functions to be called in every child: they are for threads, which no
    child has, and for fresh random numbers, which `preload.settle` rules out; each child would
    copy 200 pages for them.
    """
    register = os.register_at_fork
    os.__dict__["register_at_fork"] = lambda **_: None
    yield
    os.__dict__["register_at_fork"] = register


def _keep(nowhere: int, link: int) -> None:
    """Close all files but standard input and these two, so that the lowest numbers are free."""
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, LINK + 1) for file in (nowhere, link)]
    for place, file in zip((CHILD_FILES + 1, LINK), high):
        os.dup2(file, place)
    os.closerange(1, CHILD_FILES + 1)
    os.closerange(LINK + 1, 1 << 16)


@functools.cache
def _take() -> None:
    """Wait for the files of a program, which get the numbers 1, 2, ..., and set its last limit."""
    with socket.socket(fileno=LINK) as link:
        message, files = _receive(link)
    if files != list(range(1, CHILD_FILES + 1)):
        raise OSError(f"received the files {files}")
    # A second limit, in case the zygote fails to watch. It is larger, because the kernel counts
    # ticks and may overestimate the processor time.
    seconds = int(JOB.unpack(message)[1]) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))


def _receive(link: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and the files that came with it."""
    size = array.array("i").itemsize * CHILD_FILES
    message, extra, _, _ = link.recvmsg(64, socket.CMSG_LEN(size))
    files = array.array("i")
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    return message, list(files)


def _sibling(name: str) -> ModuleType:
    """A module beside this file, loaded without its package."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_slm_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
