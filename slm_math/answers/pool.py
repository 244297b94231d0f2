"""The algebra system in a process of its own, which can be killed: a hostile answer costs seconds,
never the run.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# of processor time for all questions about one answer: a busy machine changes no verdict
SECONDS = 1.0
PATIENCE = 60.0  # of wall time before a silent worker is killed
MEMORY_MB = 2048
WORKERS = 2
TRIES = 2
FAILURES = ("timeout", "died")

_ROOT = str(Path(__file__).resolve().parents[2])


class _Worker:
    """One `python -m slm_math.answers.algebra` process; questions and answers are JSON lines."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-P", "-m", "slm_math.answers.algebra", str(MEMORY_MB)]
        # sympy orders by hash
        fixed = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment = {**os.environ, "PYTHONPATH": path, **fixed}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # or what a dead process did not take would be written again when its pipe is closed
            bufsize=0,
        )
        self._unread = b""
        if self._read(PATIENCE) != "ready":
            self.kill()
            raise OSError(f"the grader's algebra process did not start; try: {' '.join(command)}")

    def query(self, question: str) -> str:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(question.encode() + b"\n")
        except OSError:
            return "died"
        return self._read(PATIENCE)

    def _read(self, seconds: float) -> str:
        """One line; "died" when the process ended, "timeout" when it stays silent."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        # select() itself fails above 1,024 open files
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    return "timeout"
                piece = os.read(self.process.stdout.fileno(), 4096)
                if not piece:
                    return "died"
                self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Pool:
    """A few workers, started when first needed, shared by all threads of this process."""

    def __init__(self) -> None:
        self.idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(WORKERS):
            self.idle.put(None)

    def query(self, seconds: float, kind: str, *expressions: str) -> tuple[str, float]:
        """ "yes", "no", "unread", "timeout" or "died" for one comparison, and the processor seconds
        that it took.

        Blocks while all workers are busy. A worker that was killed from outside is replaced, and
        asked again; an answer that brings down two is "died".
        """
        worker = self.idle.get()
        question = json.dumps([seconds, kind, *expressions])
        reply, used = "died", 0.0
        try:
            for _ in range(TRIES):
                try:
                    worker = worker or _Worker()
                except OSError:  # no process to be had
                    break
                reply, _, took = worker.query(question).partition(" ")
                used = float(took or seconds)
                # what a half-done computation leaves behind is not worth keeping
                if reply in FAILURES:
                    broken, worker = worker, None
                    broken.kill()
                if reply != "died":
                    break
            return reply, used
        finally:
            self.idle.put(worker)

    def close(self) -> None:
        while not self.idle.empty():
            worker = self.idle.get()
            if worker:
                worker.kill()


_pool: Pool | None = None
_query_count = 0
_local = threading.local()
_lock = threading.Lock()


class BudgetSpent(Exception):
    """The answer under judgement has used up its time."""


@contextlib.contextmanager
def budget(seconds: float = SECONDS) -> Iterator[None]:
    """All questions about one answer share `seconds` of processor time, however many members or
    choices it has.
    """
    outer = getattr(_local, "left", None)
    _local.left = seconds if outer is None else outer
    try:
        yield
    finally:
        if outer is None:
            del _local.left


def query(kind: str, *expressions: str) -> str:
    """Ask the shared pool. Raises `BudgetSpent` when the budget of the answer under
    judgement is used up.
    """
    global _pool, _query_count
    with _lock:
        _query_count += 1
        _pool = _pool or Pool()
        pool = _pool
    left = getattr(_local, "left", None)
    if left is not None and left <= 0:
        raise BudgetSpent
    reply, used = pool.query(SECONDS if left is None else left, kind, *expressions)
    if left is not None:
        _local.left = left - used
        if reply == "timeout" and left < SECONDS:
            raise BudgetSpent  # with all the time there is, it might have been answered
    return reply


def query_count() -> int:
    """How many questions this process has put to its pool: what was not decided exactly."""
    return _query_count


def close() -> None:
    """Stop the workers; the next question starts them again."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool:
        pool.close()


def _forget() -> None:
    """A forked child must not share its parent's pipes."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
