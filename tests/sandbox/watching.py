"""Wait for a condition, and list the processes of a sandbox."""

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


def eventually(condition, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
