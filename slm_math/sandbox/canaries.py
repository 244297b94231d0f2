"""What every new worker is asked before its first real program: things that must fail, and one that must not.

The program runs where all programs run. It names what it was able to do; silence and the control's sum are the proof.
"""

from __future__ import annotations

CONTROL = "walls stand"

# `READING`, `LANDLOCK`, `NAMESPACES` and `BYTES` (more memory than there is) are put in front
PROGRAM = """
import ctypes, mmap, os, signal, socket, threading
import sympy

libc = ctypes.CDLL(None, use_errno=True)

def denied(function, *arguments):
    # bad arguments throughout: what gets past the filter fails, too, but with another error
    if libc[function](*arguments) != -1 or ctypes.get_errno() != 1:
        raise AssertionError

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
    "hold memory outside its limit": lambda: os.memfd_create("canary"),
    "exceed its memory": lambda: bytearray(BYTES),
    "map executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_READ),
}
if not READING:
    attacks["see a file"] = lambda: os.stat("/")
for name, arguments in {
    "ptrace": (-1, 0, 0, 0), "unshare": (-1,), "prctl": (-1, 0, 0, 0, 0), "mount": (0, 0, 0, 0, 0), "setuid": (-1,),
    "shmget": (-1, 0, 0), "eventfd": (0, -1), "inotify_init1": (-1,), "personality": (-1,), "epoll_create1": (-1,),
    "setrlimit": (0, -1),
}.items():
    def attempt(name=name, arguments=arguments):
        denied(name, *map(ctypes.c_long, arguments))
        raise PermissionError
    attacks["call " + name] = attempt

for name, attack in attacks.items():
    try:
        attack()
    except (PermissionError, MemoryError, RuntimeError):
        continue
    except BaseException as error:
        name += f" ({type(error).__name__})"
    print(name)
if len(os.environ) > 8:
    print("see the environment")
if NAMESPACES and os.getpid() > 999:
    print("see the host's processes")
if sympy.sqrt(16) + 4 == 8:
    print(CONTROL)
"""


def program(reading: bool, namespaces: bool, memory: int) -> str:
    head = f"READING, NAMESPACES, BYTES, CONTROL = {reading}, {namespaces}, {memory + (64 << 20)}, {CONTROL!r}\n"
    return head + PROGRAM
