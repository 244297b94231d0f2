"""Wait for a condition, and list the processes of a sandbox: its workers, the children in which
programs run, and those that wait for a program.
"""

import contextlib
import os
import time
from pathlib import Path


def processes(parent: int | None = None) -> list[int]:
    """The workers (and children of workers) that run below `parent` (default: this process)."""
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            own = b"zygote.py" in command and b"bwrap" not in command.partition(b"\0")[0]
            table[int(folder.name)] = (int(ppid), own)
    below = {parent or os.getpid()}
    while more := {pid for pid, (ppid, _) in table.items() if ppid in below} - below:
        below |= more
    return sorted(pid for pid in below if pid in table and table[pid][1])


def parent_of(pid: int) -> int:
    """The parent of a process; 0 if the process is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def open_files(pid: int) -> dict[int, str]:
    """number -> what it is, such as "pipe:[1234]"; empty if the process is gone."""
    found = {}
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found


def workers(parent: int | None = None) -> list[int]:
    below = processes(parent)
    # a child that has ended since has no parent any more
    return [pid for pid in below if (parent := parent_of(pid)) and parent not in below]


def children(parent: int | None = None, *, waiting: bool) -> list[int]:
    """The children that wait for a program, or those that have one: these have no link left."""
    below = processes(parent)
    return [
        pid
        for pid in below
        if parent_of(pid) in below
        and (files := open_files(pid))
        and any(name.startswith("socket:") for name in files.values()) == waiting
    ]


def eventually(condition, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
