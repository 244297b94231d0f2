"""Worker processes for the algebra system: they can be killed if an answer is hostile."""

from __future__ import annotations

import atexit
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Steps of algebra for all questions about one answer (see `effort`): about a second. Time would let
# the machine change verdicts.
STEPS = 100_000
# Processor time for all questions about one answer, about ten times what the steps take. A question
# that this ends is asked again when it comes again.
SECONDS = 10.0
PATIENCE = 120.0  # seconds of wall time before a silent worker is killed
MEMORY_MB = 2048
WORKERS = 2
TRIES = 2
FAILURES = ("timeout", "died")

_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass
class Budget:
    """What the questions about one answer may take: steps of algebra, and processor seconds."""

    steps: int = STEPS
    seconds: float = SECONDS


class Reply(NamedTuple):
    """The text of a reply, with the processor seconds and the steps that it took."""

    text: str
    seconds: float = 0.0
    steps: int = 0


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

    def query(self, limits: Budget, kind: str, *expressions: str) -> Reply:
        """One comparison within limits.

        The reply is "yes", "no", "unread", "steps" if there were too few of them, "timeout" or
        "died". Blocks while all workers are busy. A worker that was killed from outside is replaced
        and queried again; if the second one ends as well, the reply is "died".
        """
        worker = self.idle.get()
        question = json.dumps([limits.steps, limits.seconds, kind, *expressions])
        reply = Reply("died")
        try:
            for _ in range(TRIES):
                try:
                    worker = worker or _Worker()
                except OSError:  # no process could be started
                    break
                text, *used = worker.query(question).split()
                if used:
                    reply = Reply(text, seconds=float(used[1]), steps=int(used[0]))
                else:
                    reply = Reply(text, limits.seconds)
                if text in FAILURES:  # its state may be inconsistent
                    broken, worker = worker, None
                    broken.kill()
                if text != "died":
                    break
            return reply
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
    """The answer that is being graded has used up its steps."""


class _Shared:
    """A block with one budget, that of the block around it if it has one; the class is several
    times as fast as a generator.
    """

    def __enter__(self) -> None:
        self.outermost = getattr(_local, "budget", None) is None
        if self.outermost:
            _local.budget = Budget(STEPS, SECONDS)

    def __exit__(self, *error: object) -> None:
        if self.outermost:
            _local.budget = None


def budget() -> AbstractContextManager[None]:
    """All questions about one answer share `STEPS`, and `SECONDS` of processor time.

    Otherwise an answer with many members, or a problem with many choices, could take that long for
    each of them.
    """
    return _Shared()


def steps_left() -> int:
    """The steps that are left for the answer that this thread is grading."""
    left = getattr(_local, "budget", None)
    return STEPS if left is None else left.steps


def charge(steps: int, before: int) -> None:
    """Leave as many steps as a comparison leaves that begins with `before` and takes `steps`.

    A remembered verdict costs what it cost first, so that the verdicts on the other members of an
    answer do not depend on what is remembered. Raises `BudgetSpent` if it costs too much.
    """
    left = getattr(_local, "budget", None)
    if left is not None:
        left.steps = before - steps
    if steps > before:
        raise BudgetSpent


def query(kind: str, *expressions: str) -> str:
    """Query the shared pool. Raises `BudgetSpent` if the answer's steps are used up."""
    global _pool, _query_count
    with _lock:
        _query_count += 1
        _pool = _pool or Pool()
        pool = _pool
    left = getattr(_local, "budget", None) or Budget(STEPS, SECONDS)
    if left.steps <= 0:
        raise BudgetSpent
    if left.seconds <= 0:
        return "timeout"
    allowed = left.steps
    reply = pool.query(left, kind, *expressions)
    left.steps -= reply.steps
    left.seconds -= reply.seconds
    if reply.text == "steps":
        left.steps = 0
        if allowed < STEPS:
            raise BudgetSpent  # all steps might have sufficed: the reply must not be remembered
    return reply.text


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
