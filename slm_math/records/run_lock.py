"""Only one process trains in a folder at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

LOCK = "run.lock"
_held: dict[Path, IO[str]] = {}  # the locks of this process, by folder


def lock_run(root: Path) -> None:
    """Locks a folder for this process until `unlock_run`, or its end, also by a kill.

    The lock is not inherited by worker processes, which may outlive their parent. A file system
    without locks goes without.

    Raises ValueError, with its process, machine and start, if another process holds the lock.
    """
    root = root.resolve()
    if root in _held:
        return
    root.mkdir(parents=True, exist_ok=True)
    file = (root / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise ValueError(
            f"{root} is in use: {holder} trains in it; wait for its end or stop it, or start a new "
            "run elsewhere with --trainer.default_root_dir OTHER"
        ) from None
    except OSError:
        pass
    _held[root] = file


def sign_lock(root: Path) -> None:
    """Writes down who holds the lock; apart from locking, since a refused run changes no file."""
    file = _held[root.resolve()]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now},")
    file.flush()


def unlock_run(root: Path) -> None:
    file = _held.pop(root.resolve(), None)
    if file is not None:
        file.close()
