"""Worker processes for the algebra system: they can be killed if an answer is hostile."""

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

# Processor time for all questions about one answer. Wall time would let a busy machine change
# verdicts.
SECONDS = 1.0
PATIENCE = 60.0  # seconds of wall time before a silent worker is killed
MEMORY_MB = 2048
WORKERS = 2
TRIES = 2
FAILURES = ("timeout", "died")

_ROOT = str(Path(__file__).resolve().parents[2])


class _Worker:
    """One `python -m slm_math.answers.algebra` process: a question and a reply are a line each."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
        command = [sys.executable, "-P", "-m", "slm_math.answers.algebra", str(MEMORY_MB)]
        # sympy orders terms by hash
        fixed = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment = {**os.environ, "PYTHONPATH": path, **fixed}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            # a buffer would be written again when the pipe of a dead process is closed
            bufsize=0,
        )
        self._unread = b""
        if self._read(PATIENCE) != "ready":
            self.kill()
            raise OSError(f"the grader's algebra process did not start; try: {' '.join(command)}")

    def query(self, question: str) -> str:
        """The reply to a question; "died" or "timeout" if there is none."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(question.encode() + b"\n")
        except OSError:
            return "died"
        return self._read(PATIENCE)

    def _read(self, seconds: float) -> str:
        """The next line; "died" if the process has ended, "timeout" if it stays silent."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        # select.select() fails for file numbers above 1,023
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
    """A few workers that all threads of this process share; each is started when first needed."""

    def __init__(self) -> None:
        self.idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(WORKERS):
            self.idle.put(None)

    def query(self, seconds: float, kind: str, *expressions: str) -> tuple[str, float]:
        """One comparison: its reply and the processor seconds that it took.

        The reply is "yes", "no", "unread", "timeout" or "died". Blocks while all workers are busy.
        A worker that was killed from outside is replaced and queried again; if the second one ends
        as well, the reply is "died".
        """
        worker = self.idle.get()
        question = json.dumps([seconds, kind, *expressions])
        reply, used = "died", 0.0
        try:
            for _ in range(TRIES):
                try:
                    worker = worker or _Worker()
                except OSError:  # no process could be started
                    break
                reply, _, processor_seconds = worker.query(question).partition(" ")
                used = float(processor_seconds or seconds)
                if reply in FAILURES:  # its state may be inconsistent
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
    """The answer that is being graded has used up its processor time."""


@contextlib.contextmanager
def budget(seconds: float = SECONDS) -> Iterator[None]:
    """All questions about one answer share `seconds` of processor time.

    Otherwise an answer with many members, or a problem with many choices, could take that long for
    each of them.
    """
    outer = getattr(_local, "left", None)
    _local.left = seconds if outer is None else outer
    try:
        yield
    finally:
        if outer is None:
            del _local.left


def query(kind: str, *expressions: str) -> str:
    """Query the shared pool. Raises `BudgetSpent` if the answer's budget is used up."""
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
            raise BudgetSpent  # the full budget might have sufficed: the reply must not be cached
    return reply


def query_count() -> int:
    """How many questions this process has put to its pool because they had no exact decision."""
    return _query_count


def close() -> None:
    """Stop the workers; the next question starts them again."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool:
        pool.close()


def _forget() -> None:
    """Drop the pool in a forked child, which must not share the pipes of its parent."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
