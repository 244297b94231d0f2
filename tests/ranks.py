"""Processes that train together on one machine, as those of torchrun do.

A fresh process imports everything once and forks those that train, which takes seconds less than
an import in each.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_program(file: str, *arguments: str, seconds: float = 580) -> None:
    """Runs a test file as a program."""
    done = subprocess.run(
        [sys.executable, file, *arguments],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def forked(work: Callable[[], None], **environment: str) -> int:
    """The number of a new process that does this work."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.environ |= environment
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(*processes: int) -> None:
    ends = [os.waitpid(pid, 0)[1] for pid in processes]
    assert not any(ends), ends


def two(work: Callable[[], None]) -> list[int]:
    """The numbers of two processes that do this work together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [forked(work, **meet, NODE_RANK="0", LOCAL_RANK=str(rank)) for rank in range(2)]
