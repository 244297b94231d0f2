"""The far side of `Sandbox`: reads one job from stdin, locks its own process down, then runs the program.

Runs as a script of its own, so it imports nothing but the standard library, and of that only what loads fast (hence
`_ast`, `_signal` and marshal: ast, signal and json would double the start). It talks to the sandbox over stderr: what
comes before the ready mark is a failure to start, what comes after it is the program's error line.
"""

import _ast
import _signal as signal  # pyright: ignore[reportMissingImports]
import ctypes
import importlib.machinery
import io
import marshal
import os
import random
import resource
import stat
import struct
import sys

READY = b"\0ready\0"
PROGRAM = "<program>"  # the file name that the program's own frames carry
SYNTAX_TREE = 0x400  # ast.PyCF_ONLY_AST

# System calls the program may not make, as (x86-64, arm64) numbers; None where the machine has no such call.
DENIED: dict[str, tuple[int | None, int | None]] = {
    # network
    "socket": (41, 198), "socketpair": (53, 199),
    # other processes
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    # new processes and threads
    "fork": (57, None), "vfork": (58, None), "clone": (56, 220), "clone3": (435, 435), "execve": (59, 221),
    "execveat": (322, 281), "setsid": (112, 157), "setpgid": (109, 154),
    # its own limits
    "setrlimit": (160, 164), "prlimit64": (302, 261), "prctl": (157, 167), "personality": (135, 92),
    "unshare": (272, 97), "setns": (308, 268),
    # changes to files (`open` for writing is refused below)
    "creat": (85, None), "openat2": (437, 437), "open_by_handle_at": (304, 265), "truncate": (76, 45),
    "ftruncate": (77, 46), "fallocate": (285, 47), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None),
    "unlinkat": (263, 35), "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    # memory that no limit counts, and doors to the kernel that no sum needs
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180), "io_uring_setup": (425, 425), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "fanotify_init": (300, 262), "mount": (165, 40), "chroot": (161, 51),
}  # fmt: skip
OPEN = {"open": (2, None), "openat": (257, 56)}
NEWER = 448  # system calls from here on are younger than this table: "no such call"


def seccomp_filter(machine: str) -> bytes:
    """The BPF program, an array of `struct sock_filter`, that refuses the calls above ("operation not permitted")."""
    which, arch = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}[machine]
    allow, kill, not_permitted, no_such_call = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
    load, equal, at_least, any_bit, leave = 0x20, 0x15, 0x35, 0x45, 0x06

    def step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("=HBBI", code, then, otherwise, value)

    program = step(load, 4) + step(equal, arch, 1, 0) + step(leave, kill) + step(load, 0)
    program += step(at_least, NEWER, 0, 1) + step(leave, no_such_call)
    for numbers in DENIED.values():
        if (number := numbers[which]) is not None:
            program += step(equal, number, 0, 1) + step(leave, not_permitted)
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for flags_argument, name in ((1, "open"), (2, "openat")):
        if (number := OPEN[name][which]) is not None:
            program += step(equal, number, 0, 4) + step(load, 16 + 8 * flags_argument)
            program += step(any_bit, writes, 0, 1) + step(leave, not_permitted) + step(leave, allow)
    return program + step(leave, allow)


def call(function: str, *arguments: object) -> int:
    """Call into libc; raises OSError when the call fails."""
    result = getattr(LIBC, function)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function}: {os.strerror(code)}")
    return result


LIBC = ctypes.CDLL(None, use_errno=True)


def hide_files(readable: list[str], listable: list[str]) -> None:
    """Hide all files but the `readable` ones with Landlock; without Landlock in the kernel, reading stays open."""
    create, add, restrict = 444, 445, 446
    handled = (1 << 13) - 1  # the access rights of the first Landlock
    read_file, read_folder = 1 << 2, 1 << 3
    ruleset = LIBC.syscall(create, struct.pack("=Q", handled), 8, 0)
    if ruleset < 0:
        return
    for path in (*readable, *listable):
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        rights = (0 if path in listable else read_file) | (read_folder if folder else 0)
        call("syscall", add, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
        os.close(fd)
    call("syscall", restrict, ruleset, 0)
    os.close(ruleset)


def confine(job: dict) -> None:
    """Set the limits and give up the rights; from here on only the program's own work is possible."""
    die_with_parent = 1
    call("prctl", die_with_parent, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != job["parent"]:
        raise RuntimeError("the sandbox is gone")
    for number in (signal.SIGPROF, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # the timer counts fractions of a second, the limit holds where a program switches the timer off
    seconds = int(job["cpu_seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    lock(job["memory"], job["readable"], job["listable"])
    signal.setitimer(signal.ITIMER_PROF, job["cpu_seconds"])


def lock(memory: int, readable: list[str], listable: list[str]) -> None:
    """Limit this process to `memory` bytes and to reading some files: no writing, network, processes or privileges.

    For good. Raises OSError where the kernel refuses, KeyError on a machine without a filter.
    """
    no_new_privileges, seccomp, with_filter = 38, 22, 2
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 0,
    }
    code = seccomp_filter(os.uname().machine)
    call("prctl", no_new_privileges, 1, 0, 0, 0)
    hide_files(readable, listable)
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))
    # drop all capabilities: header (version 3, this process), then three empty sets of 64 bits
    call("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))
    steps = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(steps))
    call("prctl", seccomp, with_filter, program, 0, 0)


class Packages:
    """Finds the few installed packages that programs may import, each in its own folder."""

    def __init__(self, folders: dict[str, str]) -> None:
        self.folders = folders

    def find_spec(self, name: str, path: object, target: object = None, /) -> importlib.machinery.ModuleSpec | None:
        if path is None and name in self.folders:
            return importlib.machinery.PathFinder.find_spec(name, [self.folders[name]])
        return None


class Counted(io.FileIO):
    """Standard output that knows whether anything was written."""

    written = False

    def write(self, data) -> int:
        self.written = True
        return super().write(data)


def describe(error: BaseException, hidden: list[str]) -> str:
    """One line: the line of the program, the error's name, the first line of its message."""
    line = None
    if isinstance(error, SyntaxError) and error.filename == PROGRAM:
        line, message = error.lineno, error.msg
    else:
        message = str(error)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == PROGRAM:
            line = trace.tb_lineno
        trace = trace.tb_next
    for folder in hidden:
        message = message.replace(folder + "/", "").replace(folder, ".")
    message = (message.strip().splitlines() or [""])[0][:300]
    where = f"line {line}: " if line else ""
    return f"{where}{type(error).__name__}{': ' if message else ''}{message}"


def execute(code: str) -> BaseException | None:
    """Run the program as `__main__`, print a last expression's value if nothing was printed; returns its error."""
    raw = Counted(1, "w", closefd=False)
    out = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="backslashreplace", line_buffering=True)
    sys.stdout = sys.__stdout__ = out
    main = sys.modules["__main__"] = type(sys)("__main__")
    main.__dict__.update(exit=sys.exit, quit=sys.exit)
    try:
        tree = compile(code, PROGRAM, "exec", SYNTAX_TREE)
        assert isinstance(tree, _ast.Module)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, _ast.Expr):
            tree.body.pop()
        exec(compile(tree, PROGRAM, "exec"), main.__dict__)
        if isinstance(last, _ast.Expr):
            value = eval(compile(_ast.Expression(last.value), PROGRAM, "eval"), main.__dict__)
            out.flush()
            if value is not None and not raw.written:
                print(value, file=out)
    except SystemExit as stop:
        return None if stop.code is None or stop.code == 0 else stop
    except BaseException as error:
        return error
    finally:
        out.flush()
    return None


def main() -> None:
    report = os.dup(2)
    job = marshal.loads(io.FileIO(0, closefd=False).readall())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    sys.meta_path.append(Packages(job["packages"]))
    # a program is a function of its text: numpy and `secrets` draw their seeds from here
    random.seed(0)
    random.__dict__["_urandom"] = random.Random(0).randbytes
    confine(job)
    os.dup2(null, 2)
    os.write(report, READY)
    line = ""
    try:
        error = execute(job["code"])
        line = describe(error, job["hidden"]) if error is not None else ""
    except BaseException as error:  # out of memory once more, a message that cannot be made, a closed stdout
        line = type(error).__name__
    os.write(report, line.encode("utf-8", "replace"))
    os._exit(1 if line else 0)


if __name__ == "__main__":
    main()
