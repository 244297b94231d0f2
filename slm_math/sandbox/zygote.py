"""A warm worker: loads the libraries once, then forks one child per program. Runs as a script of
its own.

It never sees a program or its output: the sandbox passes the ends of pipes, the zygote hands them
to the child, and says afterwards how the child ended. So nothing can be forged, and nothing goes
from one program to the next.
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

JOB = struct.Struct("=dd")  # processor seconds, seconds
# wait status, processor seconds, seconds, why the zygote killed it (or a space)
ENDED = struct.Struct("=idd1s")
STOP, LEAVE = b"stop", b"leave"
BY_CPU, BY_CLOCK, BY_REQUEST, BY_ITSELF = b"c", b"w", b"r", b" "
CHILD_FILES = 4  # output, errors, report, job
NOWHERE = "/dev/null"  # one more open file of the child: for what nobody is to see


def main() -> None:
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) == signal.SIG_IGN and number != signal.SIGPIPE:  # inherited
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
            file.write("1000")  # where memory runs out, programs go first
        preload.load(settings["packages"], settings["modules"], settings["readable"] is not None)
        boundary.give_up_privileges()
        limit, landlock, readable = (
            address_space() + settings["memory"],
            settings["landlock"],
            settings["readable"],
        )
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
    gc.freeze()  # what is here stays: children share its memory as long as nobody touches it
    link.send(b"ready")
    while True:
        message, files = _receive(link)
        if message in (b"", LEAVE):
            os._exit(0)
        if len(files) != CHILD_FILES or message == STOP:
            continue  # a late request to stop what has ended
        parent, start = os.getpid(), time.monotonic()
        pid = os.fork()
        if pid == 0:
            try:
                _become([*files, nowhere])
                boundary.die_with(parent)
                # in case this process fails to look: the kernel counts ticks, so processor time can
                # seem longer than it was, but not longer than the clock's
                seconds = int(JOB.unpack(message)[1]) + 2
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
                boundary.lock(limit, landlock=landlock, reading=readable)
                # programs are short: collecting less often saves a tenth of sympy's time
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
    """Wait for the end of a child; kill it at a limit or on request. Returns why it was killed."""
    clock = (~pid << 3) | 2  # the kernel's name for the processor time of a process
    deadline = time.monotonic() + seconds
    poller = select.poll()
    poller.register(link, select.POLLIN)
    try:
        ended = os.pidfd_open(pid)
        poller.register(ended, select.POLLIN)
    except OSError:  # an old kernel: look often
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
    """Bytes of address space that this process has now: the least limit under which one more page
    fits.

    /proc would tell, where there is one.
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
    # it has ended, or the kernel does not say: the limit of the child itself is left
    except OSError:
        return 0.0


def _become(files: list[int]) -> None:
    """Put the files in their places, and close all others."""
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, len(files) + 1) for file in files]
    for place, file in enumerate(high, 1):
        os.dup2(file, place)
    os.closerange(len(files) + 1, 1 << 16)


def _receive(link: socket.socket) -> tuple[bytes, list[int]]:
    """One message and the files that came with it."""
    size = array.array("i").itemsize * CHILD_FILES
    message, extra, _, _ = link.recvmsg(64, socket.CMSG_LEN(size))
    files = array.array("i")
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    return message, list(files)


def _sibling(name: str) -> ModuleType:
    """A file beside this one, without the package around it."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_slm_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
