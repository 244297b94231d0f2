"""The canary: a program that every new worker runs before its first real program.

It tries actions that must fail and one that must succeed, in the place where all programs run. It
prints what it was able to do. The walls stand if it prints nothing but the result of the control.
"""

from __future__ import annotations

from slm_math.sandbox import boundary

CONTROL = "walls stand"
LAST = 480  # system calls up to this number are tried; Linux 6.18 has about 470

# Calls that are not tried by number: vfork, sync, vhangup, setsid and fork take no arguments, so
# they would act if they were allowed (fork is tried by itself below). uretprobe and uprobe belong
# to the kernel's trampolines and end any other caller with SIGILL.
_UNTRIED_NUMBERS = ((57, 58, 112, 153, 162, 335, 336), (58, 81, 157))

# `program` defines these names before it: READING, NAMESPACES, BYTES (more memory than the limit),
# CONTROL, CALLS and FUTEX (numbers of system calls)
PROGRAM = """
import ctypes, mmap, os, signal, socket, threading
import sympy

libc = ctypes.CDLL(None, use_errno=True)
bad = [ctypes.c_long(-1)] * 6

def refused(number, *arguments):
    # with bad arguments, a call that passes the filter fails, too, but with another error
    result = libc.syscall(ctypes.c_long(number), *(arguments or bad))
    return result == -1 and ctypes.get_errno() == 1

def shared():
    mmap.mmap(-1, 4096, mmap.MAP_SHARED)

def wake():
    if refused(FUTEX, 0, 1, 1, 0, 0, 0):
        raise PermissionError

attacks = {
    "read a file": lambda: os.open("/", os.O_RDONLY),
    "write a file": lambda: os.open("/tmp/slm-math-canary", os.O_WRONLY | os.O_CREAT),
    "read its environment": lambda: open("/proc/self/environ"),
    "open a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "open a network socket": lambda: socket.socket(socket.AF_INET),
    "make a pair of sockets": socket.socketpair,
    "make a pipe": os.pipe,
    "fork": lambda: os.fork() or os._exit(0),
    "run a command": lambda: os.execv("/no/such/command", ["true"]),
    "start a thread": lambda: threading.Thread(target=int).start(),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "signal everybody": lambda: os.kill(-1, 0),
    "kill itself unseen": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "look at others": lambda: os.sched_getaffinity(1 if os.getpid() != 1 else 2),
    "hold memory outside its limit": lambda: os.memfd_create("canary"),
    "exceed its memory": lambda: bytearray(BYTES),
    "share memory": shared,
    "wake another": wake,
    "map executable memory": lambda: mmap.mmap(
        -1, 4096, mmap.MAP_PRIVATE, mmap.PROT_EXEC | mmap.PROT_READ
    ),
}
if not READING:
    attacks["see a file"] = lambda: os.stat("/")
for name, attack in attacks.items():
    try:
        attack()
    except (PermissionError, MemoryError, RuntimeError):
        continue
    except BaseException as error:
        name += f" ({type(error).__name__})"
    print(name)
if allowed := [number for number in CALLS if not refused(number)]:
    print("make system calls", *allowed)
if len(os.environ) > 8:
    print("see the environment")
if NAMESPACES and os.getpid() > 999:
    print("see the host's processes")
if sympy.sqrt(16) + 4 == 8:
    print(CONTROL)
"""


def program(machine: str, reading: bool, namespaces: bool, memory: int) -> str:
    """The canary program for an architecture: it tries every system call that is in no table."""
    column = boundary.ARCHITECTURES[machine][0]
    tables = (
        boundary.ALLOWED
        | boundary.CHECKED
        | (boundary.READING | boundary.OPENING if reading else {})
    )
    known = {numbers[column] for numbers in tables.values()} | set(_UNTRIED_NUMBERS[column])
    calls = [number for number in range(LAST) if number not in known]
    constants = {
        "READING": reading,
        "NAMESPACES": namespaces,
        "BYTES": memory + (64 << 20),
        "CONTROL": CONTROL,
        "FUTEX": boundary.CHECKED["futex"][column],
        "CALLS": calls,
    }
    head = "; ".join(f"{name} = {value!r}" for name, value in constants.items())
    return f"{head}\n{PROGRAM}"
