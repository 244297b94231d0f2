"""The process of a warm worker: load the libraries once, then fork one child per program.

This file runs as a script. It never reads a program or its output: the sandbox sends the ends of
pipes, the zygote hands them to the child, and afterwards it reports how the child ended. So no
program can forge that report or pass anything on to the next program.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
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
from types import ModuleType

JOB = struct.Struct("=dd")  # limits: processor seconds, wall seconds
# wait status, processor seconds, wall seconds, why the zygote killed the child
ENDED = struct.Struct("=idd1s")
STOP, LEAVE = b"stop", b"leave"
BY_CPU, BY_CLOCK, BY_REQUEST, BY_ITSELF = b"c", b"w", b"r", b" "
CHILD_FILES = 4  # output, errors, report, job
NOWHERE = "/dev/null"  # one more open file of the child, for output that is discarded


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
        preload.load(settings["packages"], settings["modules"], settings["readable"] is not None)
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
    gc.freeze()  # children share this memory as long as no collection touches it
    link.send(b"ready")
    while True:
        message, files = _receive(link)
        if message in (b"", LEAVE):
            os._exit(0)
        if len(files) != CHILD_FILES or message == STOP:
            continue  # a late request to stop a program that has ended
        parent, start = os.getpid(), time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                _become([*files, nowhere])
                boundary.die_with(parent)
                # A second limit, in case this process fails to watch. It is larger, because the
                # kernel counts ticks and may overestimate the processor time.
                seconds = int(JOB.unpack(message)[1]) + 2
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
                boundary.lock(limit, landlock=landlock, reading=readable, calls=calls)
                # programs are short: less frequent collections save a tenth of sympy's time
                gc.set_threshold(50_000, 20, 100)
                gc.enable()
                child.main()
            except BaseException as error:
                with contextlib.suppress(BaseException):
                    os.write(child.REPORT, f"{type(error).__name__}: {error}".encode()[:1000])
            finally:
                os._exit(70)
        for file in files:
            os.close(file)
        why = watch(link, pid, *JOB.unpack(message))
        _, status, used = os.wait4(pid, 0)
        link.send(ENDED.pack(status, used.ru_utime + used.ru_stime, time.monotonic() - start, why))


def watch(link: socket.socket, pid: int, cpu_seconds: float, seconds: float) -> bytes:
    """Wait for the end of a child, or kill it at a limit or on request; returns the reason."""
    clock = (~pid << 3) | 2  # the kernel's number for the clock of a process's processor time
    deadline = time.monotonic() + seconds
    poller = select.poll()
    poller.register(link, select.POLLIN)
    try:
        ended = os.pidfd_open(pid)
        poller.register(ended, select.POLLIN)
    except OSError:  # an old kernel: poll often instead
        ended = None
    try:
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            left = cpu_seconds - _used(clock, pid)
            wall = deadline - time.monotonic()
            if left <= 0 or wall <= 0:
                os.kill(pid, signal.SIGKILL)
                return BY_CPU if left <= 0 else BY_CLOCK
            wait = max(min(left, wall), 0.001) if ended is not None else 0.002
            for fd, _ in poller.poll(wait * 1000):
                if fd == link.fileno():
                    message = link.recv(64)
                    if message in (b"", LEAVE):
                        os.kill(pid, signal.SIGKILL)
                        os._exit(0)
                    if message == STOP:
                        os.kill(pid, signal.SIGKILL)
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


def _used(clock: int, pid: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:  # the child has ended, or the kernel lacks the clock: RLIMIT_CPU still holds
        return 0.0


def _become(files: list[int]) -> None:
    """Give the files the numbers 1, 2, ... and close all others."""
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, len(files) + 1) for file in files]
    for place, file in enumerate(high, 1):
        os.dup2(file, place)
    os.closerange(len(files) + 1, 1 << 16)


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
