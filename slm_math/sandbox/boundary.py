"""The boundary: what a process may still do after it has called `lock`. All of it is in this file.

There are four walls. The kernel enforces each of them, and no program can take one down again:

1. limits on memory, processor time, open files, processes and file size (`limit`);
2. no capabilities, and no way to gain any (`give_up_privileges`);
3. Landlock, if the kernel has it: no files, no TCP, no signals or abstract sockets to other
   processes (`hide_files`);
4. seccomp: a short list of allowed system calls; all others fail with "operation not permitted"
   (`Filter`).

The fourth wall is sufficient on its own. A locked process can compute, write to its open files,
sleep and end. It cannot open a file, make a socket, a pipe, a process or a thread, map executable
memory, or signal another process. With `reading` it can also open files to read them, for packages
that load some of their parts late; the third wall then limits which files.

This file uses the standard library alone and nothing else of this package, because the forked child
runs it before anything else.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import stat
import struct
from collections.abc import Callable, Iterable

# the number of a system call on x86-64 and on arm64; None if the architecture lacks the call
Numbers = tuple[int | None, int | None]

# What every program may call.
ALLOWED: dict[str, Numbers] = {
    # its own open files: standard input (empty), output, error, and the report; it cannot reopen
    # any of them
    "read": (0, 63), "readv": (19, 65), "write": (1, 64), "writev": (20, 66), "close": (3, 57),
    "lseek": (8, 62), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "fstat": (5, 80),
    "getcwd": (79, 17),
    # waiting for these files, and sleeping: time.sleep calls select or clock_nanosleep
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "pause": (34, None), "nanosleep": (35, 101), "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    # memory, counted by RLIMIT_AS (mmap, mremap, mprotect, madvise: see below)
    "brk": (12, 214), "munmap": (11, 215),
    # signals to itself (kill, tkill, tgkill: see below), and timers that send such a signal
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "alarm": (37, None), "setitimer": (38, 103), "getitimer": (36, 102),
    # the clock, random bytes, its own process id and resource usage
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "getrlimit": (97, 163), "getrandom": (318, 278), "getpid": (39, 172), "gettid": (186, 178),
    "getcpu": (309, 168),
    # its end
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
# What every program may call with certain arguments: `_conditions` says which.
CHECKED: dict[str, Numbers] = {
    "mmap": (9, 222), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "futex": (202, 98), "fcntl": (72, 25), "ioctl": (16, 29), "prlimit64": (302, 261),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
}  # fmt: skip
# What programs may call in addition with reading=True. They can see that hidden files exist,
# because Landlock does not cover that.
READING: dict[str, Numbers] = {
    "newfstatat": (262, 79), "stat": (4, None), "lstat": (6, None), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78), "getdents64": (217, 61), "pread64": (17, 67),
}  # fmt: skip
OPENING: dict[str, Numbers] = {"open": (2, None), "openat": (257, 56)}

# (column of the tables above, the kernel's number for the architecture)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
# what the filter returns: the lower half of a refusal is the errno
_ALLOW, _KILL, _REFUSE, _NOT_A_TERMINAL = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050019
# the BPF instructions of the filter
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _LEAVE = 0x20, 0x15, 0x35, 0x45, 0x06
_LIBC = ctypes.CDLL(None, use_errno=True)


def lock(
    memory: int,
    *,
    landlock: bool | None,
    reading: Iterable[str] | None = None,
    calls: Filter | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Lock this process for good, with `memory` bytes of address space.

    `reading` names the files and folders that it may still read. `landlock` requires the third wall
    (True), leaves it out (False), or uses it if the kernel has it (None). `calls`: the fourth wall,
    if it was built before. `meanwhile` is called when the other three stand, for what the
    filter forbids. Raises OSError if the kernel refuses a wall.
    """
    give_up_privileges()
    limit(memory)
    if landlock is not False:
        try:
            hide_files(reading or ())
        except OSError:
            if landlock:
                raise
    calls = calls or Filter(reading is not None)
    if meanwhile is not None:
        meanwhile()
    calls.install()


def limit(memory: int) -> None:
    """Limit the address space to `memory` bytes; allow no processes, file writes or core dumps."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def give_up_privileges() -> None:
    """Drop all capabilities of this process and of any program that it could start."""
    no_new_privileges = 38
    _call("prctl", no_new_privileges, 1, 0, 0, 0)
    _LIBC.personality(0)  # one of its bits would make all memory executable
    # version 3, this process; three empty sets
    _call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))


def hide_files(readable: Iterable[str] = ()) -> None:
    """Hide all files except the readable ones with Landlock, and block all else that it can block.

    Source: the kernel's Documentation/userspace-api/landlock.rst. Raises OSError if the kernel has
    no Landlock.
    """
    create, add, restrict = 444, 445, 446
    version = min(_call("syscall", create, None, 0, 1), 6)
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    # bind, connect; abstract sockets, signals
    tcp, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", files, tcp, scope)[
        : 8 if version < 4 else 16 if version < 6 else 24
    ]
    ruleset = _call("syscall", create, attributes, len(attributes), 0)
    read_file, read_folder = 1 << 2, 1 << 3
    for path in readable:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rights = read_file | (read_folder if stat.S_ISDIR(os.fstat(fd).st_mode) else 0)
        _call("syscall", add, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
        os.close(fd)
    _call("syscall", restrict, ruleset, 0)
    os.close(ruleset)


class Filter:
    """The seccomp filter that allows only the listed system calls: built once, and installed by
    each process for itself, after it has put in its own number. Raises OSError without seccomp.
    """

    def __init__(self, reading: bool) -> None:
        machine = os.uname().machine
        # two numbers that differ in every byte show where the number of the process is
        one, other = (program(machine, pid, reading) for pid in (0x01010101, 0x02020202))
        size = struct.calcsize("=I")
        self._places = [
            place
            for place in range(4, len(one), 8)  # the last four bytes of each instruction
            if one[place : place + size] != other[place : place + size]
        ]
        self._steps = ctypes.create_string_buffer(one, len(one))
        self._header = struct.pack("HP", len(one) // 8, ctypes.addressof(self._steps))

    def of(self, pid: int) -> bytes:
        """The filter of a process."""
        number = struct.pack("=I", pid)
        for place in self._places:
            self._steps[place : place + len(number)] = number  # type: ignore[assignment]
        return self._steps.raw

    def install(self) -> None:
        """Allow this process only the listed system calls from now on."""
        seccomp, with_filter = 22, 2
        self.of(os.getpid())
        _call("prctl", seccomp, with_filter, self._header, 0, 0)


def program(machine: str, pid: int, reading: bool) -> bytes:
    """The seccomp filter for process `pid`, as an array of `struct sock_filter`.

    The kernel runs it at every system call. Calls of another architecture (32-bit code in a 64-bit
    process) kill the process. Raises OSError for an architecture without tables.
    """
    if machine not in ARCHITECTURES:
        known = " and ".join(ARCHITECTURES)
        raise OSError(f"no table of system calls for {machine}, only for {known}")
    column, name = ARCHITECTURES[machine]
    code = _step(_LOAD, 4) + _step(_EQUAL, name, 1, 0) + _leave(_KILL) + _step(_LOAD, 0)
    for numbers in (ALLOWED | (READING if reading else {})).values():
        if (number := numbers[column]) is not None:
            code += _step(_EQUAL, number, 0, 1) + _leave(_ALLOW)
    for call, body in _conditions(pid, reading).items():
        if (number := (CHECKED | OPENING)[call][column]) is not None:
            code += _step(_EQUAL, number, 0, len(body) // 8) + body
    return code + _leave(_REFUSE)


def _conditions(pid: int, reading: bool) -> dict[str, bytes]:
    """For each checked call, the instructions that decide by its arguments and then return."""
    write, execute = 2, 4
    shared, anonymous, huge = 1, 0x20, 0x40000
    # A program must not kill itself: an end by SIGKILL means that the machine killed it.
    never_killed = _unless_equal(signal.SIGKILL)
    own = _only_equal(pid)
    no_code = _argument(2) + _unless_bits(execute)
    if reading:  # executable memory may map files, but then it must not be writable
        files_code = _unless_bits(write) + _argument(3) + _unless_bits(anonymous)
        no_code = _argument(2) + _step(_ANY_BIT, execute, 0, len(files_code) // 8) + files_code
    # The clocks of the system have small numbers; larger ones are the clocks of processes, which
    # may belong to others.
    clock = _argument(0) + _step(_AT_LEAST, 12, 0, 1) + _leave(_REFUSE) + _leave(_ALLOW)
    conditions = {
        # no new machine code; no huge pages, as the host shares them; no shared memory, as it
        # outlives its mapping uncounted, and memory shared with the zygote would reach the next
        # program
        "mmap": _argument(3) + _unless_bits(huge | shared) + no_code + _leave(_ALLOW),
        "mprotect": _argument(2) + _unless_bits(execute) + _leave(_ALLOW),
        # moving memory, but not leaving a copy of it behind
        "mremap": _argument(3) + _only_of(0, 1) + _leave(_ALLOW),
        # use, free and transparent huge pages, but not holes in files, poisoning, merging or paging
        # out
        "madvise": _argument(2) + _only_of(0, 1, 2, 3, 4, 8, 14, 15) + _leave(_ALLOW),
        # wait and wake, with a bitset or without, by either clock, but only within this process
        # (128), as others map libc's pages, too, and could be woken there
        "futex": _argument(1)
        + _only_of(*(call | flags for call in (0, 1, 9, 10) for flags in (128, 384)))
        + _leave(_ALLOW),
        # duplicates and flags, but not owners of signals, sizes of pipes, locks, leases or seals
        "fcntl": _argument(1) + _only_of(0, 1, 2, 3, 1030) + _leave(_ALLOW),
        # Python expects the error "not a terminal"
        "ioctl": _leave(_NOT_A_TERMINAL),
        # reading its own limits: the process is 0 (itself), the pointer to new limits is null
        "prlimit64": _argument(0) + _only_equal(0) + _argument(2) + _only_equal(0)
        + _argument(2, upper=True) + _only_equal(0) + _leave(_ALLOW),
        "sched_getaffinity": _argument(0) + _only_of(0, pid) + _leave(_ALLOW),
        "clock_gettime": clock, "clock_getres": clock, "clock_nanosleep": clock,
        "kill": _argument(0) + own + _argument(1) + never_killed + _leave(_ALLOW),
        "tkill": _argument(0) + own + _argument(1) + never_killed + _leave(_ALLOW),
        "tgkill": _argument(0) + own + _argument(1) + own
        + _argument(2) + never_killed + _leave(_ALLOW),
    }  # fmt: skip
    if reading:
        # O_PATH is refused as well, because Landlock does not hide paths
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_PATH
        for call, position in (("open", 1), ("openat", 2)):
            conditions[call] = _argument(position) + _unless_bits(writes) + _leave(_ALLOW)
    return conditions


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; a comparison skips `then` or `otherwise` instructions after it."""
    return struct.pack("=HBBI", code, then, otherwise, value)


def _leave(verdict: int) -> bytes:
    return _step(_LEAVE, verdict)


def _argument(position: int, upper: bool = False) -> bytes:
    """Load the lower or upper half of an argument of the system call."""
    return _step(_LOAD, 16 + 8 * position + 4 * upper)


def _only_equal(value: int) -> bytes:
    return _step(_EQUAL, value, 1, 0) + _leave(_REFUSE)


def _unless_equal(value: int) -> bytes:
    return _step(_EQUAL, value, 0, 1) + _leave(_REFUSE)


def _only_of(*values: int) -> bytes:
    """Continue if the loaded value is one of `values`; refuse the call otherwise."""
    steps = [_step(_EQUAL, value, len(values) - i, 0) for i, value in enumerate(values)]
    return b"".join(steps) + _leave(_REFUSE)


def _unless_bits(bits: int) -> bytes:
    return _step(_ANY_BIT, bits, 0, 1) + _leave(_REFUSE)


def _call(function: str, *arguments: object) -> int:
    """Call a function of libc. Raises OSError if the call fails."""
    result = getattr(_LIBC, function)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")
    return result


def die_with(parent: int) -> None:
    """End this process as soon as its parent ends. Raises OSError if the parent has ended."""
    parent_death_signal = 1
    _call("prctl", parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise OSError(f"the parent process {parent} has ended")
