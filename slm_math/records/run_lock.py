"""Only one process trains in a folder at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOCK = "run.lock"


@dataclass
class _Lock:
    """A lock of this process: its file, and the folders that were made for it."""

    file: IO[str]
    made: list[Path]


_held: dict[Path, _Lock] = {}  # by the locked folder


def lock_run(root: Path) -> None:
    """Locks a folder for this process until `unlock_run`, or its end, also by a kill.

    The lock is not inherited by worker processes, which may outlive their parent. A file system
    without locks goes without.

    Raises ValueError, with its process, machine and start, if another process holds the lock.
    """
    root = root.resolve()
    if root in _held:
        return
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    while True:
        file = (root / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise ValueError(
                f"{root} is in use: {holder} trains in it; wait for its end or stop it, or start a "
                "new run elsewhere with --trainer.default_root_dir OTHER"
            ) from None
        except OSError:
            break
        if _is_file_of(file, root / LOCK):
            break
        file.close()  # its holder has just removed it
    _held[root] = _Lock(file, made)


def _is_file_of(file: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def sign_lock(root: Path) -> None:
    """Writes down who holds the lock; apart from locking, since a refused run changes no file."""
    file = _held[root.resolve()].file
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now},")
    file.flush()


def unlock_run(root: Path) -> None:
    """Frees a folder that this process locked; a run that left nothing in it leaves no folder."""
    root = root.resolve()
    lock = _held.pop(root, None)
    if lock is None:
        return
    with suppress(OSError):
        (root / LOCK).unlink()
    lock.file.close()
    with suppress(OSError):  # as soon as one of them holds something else
        for folder in lock.made:
            folder.rmdir()


def unlock_all() -> None:
    """Frees what this process locked."""
    for root in list(_held):
        unlock_run(root)
