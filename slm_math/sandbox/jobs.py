"""Programs on their way through an executor: tickets, threads that take one after another, results,
cancelling.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from slm_math.sandbox.errors import SandboxError
from slm_math.types import RunPython, RunResult


@dataclass(eq=False)
class Job:
    """One program under way."""

    ticket: int
    request: RunPython
    awaited: bool = False  # by `run`, so `poll` leaves it alone
    cancelled: bool = False
    handle: Any = None  # what it runs on now, for whoever has to stop it


class Jobs:
    """Runs jobs on up to `workers` threads of its own, whether or not anybody polls. Safe to call
    from any thread.

    A subclass says how one job is done (`_perform`), stopped (`_interrupt`), and what a thread
    leaves behind (`_leave`).
    """

    def __init__(self, workers: int, closing_seconds: float | None = None) -> None:
        if workers < 1:
            raise ValueError(f"a sandbox needs at least one worker, got {workers}")
        self.workers = workers
        # that `close` waits for threads; None: until they have ended
        self._closing_seconds = closing_seconds
        self._reset()
        this = weakref.ref(self)
        # a forked process has none of its parent's threads: its copy starts empty
        os.register_at_fork(after_in_child=lambda: (jobs := this()) and jobs._reset())

    def _perform(self, job: Job) -> RunResult:
        """Run one program; called on one of the threads. Raises SandboxError."""
        raise NotImplementedError

    def _interrupt(self, job: Job) -> None:
        """Stop a program that may be running; called with the lock held."""

    def _leave(self) -> None:
        """The last thing that a thread does."""

    def _reset(self) -> None:
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: dict[int, Job] = {}
        self._done: dict[int, RunResult | SandboxError] = {}
        self._threads: list[threading.Thread] = []
        self._tickets = 0
        self._closed = False

    def start(self) -> None:
        """See that programs can run; opens what was closed. Raises SandboxError."""
        if self._closed:
            self._reset()
        self.run("")

    def submit(self, request: RunPython) -> int:
        """Queue a program; returns its ticket."""
        return self._enqueue(request).ticket

    def poll(self, timeout: float = 0.0) -> list[tuple[int, RunResult]]:
        """What has finished since the last call; waits at most `timeout` seconds if nothing has.

        Raises SandboxError when a program could not be run, once all that went well is handed out;
        its ticket is then closed.
        """
        with self._change:
            self._change.wait_for(lambda: self._ready() or not self._jobs, timeout)
            ready = {ticket: self._done[ticket] for ticket in self._ready()}
            results = [
                (ticket, result)
                for ticket, result in ready.items()
                if isinstance(result, RunResult)
            ]
            for ticket, _ in results:
                self._forget(ticket)
            for ticket, result in ready.items() if not results else ():  # the next call raises
                self._forget(ticket)
                if isinstance(result, SandboxError):
                    raise result
            return results

    def cancel(self, ticket: int) -> None:
        """Forget a program, and stop it if it runs; its result is never returned."""
        with self._change:
            job = self._jobs.get(ticket)
            if job is None:
                return
            self._forget(ticket)
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._interrupt(job)

    def run(self, code: str, earlier: Sequence[str] = (), turns: int = 0) -> RunResult:
        """Run one program, after the earlier blocks of its session, and wait for it; see RunPython.

        Raises SandboxError when it could not be run.
        """
        job = self._enqueue(RunPython(code, tuple(earlier), turns), awaited=True)
        try:
            with self._change:
                self._change.wait_for(lambda: job.ticket in self._done or job.cancelled)
                result = self._done.get(job.ticket, SandboxError("the sandbox was closed"))
        finally:
            self.cancel(job.ticket)  # also after Ctrl-C
        if isinstance(result, SandboxError):
            raise result
        return result

    @property
    def busy(self) -> int:
        """The number of programs whose result has not been handed out."""
        with self._change:
            return len(self._jobs)

    def close(self) -> None:
        """Stop everything that runs; afterwards no process is left."""
        with self._change:
            self._closed = True
            tickets = list(self._jobs)
        for ticket in tickets:
            self.cancel(ticket)
        with self._change:
            self._change.notify_all()
        deadline = (
            None if self._closing_seconds is None else time.monotonic() + self._closing_seconds
        )
        for thread in self._threads:
            thread.join(None if deadline is None else max(deadline - time.monotonic(), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, request: RunPython, awaited: bool = False) -> Job:
        with self._change:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            self._tickets += 1
            job = self._jobs[self._tickets] = Job(self._tickets, request, awaited)
            self._waiting.append(job)
            if len(self._threads) < min(self.workers, len(self._jobs)):
                thread = threading.Thread(target=self._work, name="sandbox", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._change.notify_all()
            return job

    def _ready(self) -> list[int]:
        return [ticket for ticket in self._done if not self._jobs[ticket].awaited]

    def _forget(self, ticket: int) -> None:
        self._jobs.pop(ticket, None)
        self._done.pop(ticket, None)
        self._change.notify_all()

    def _work(self) -> None:
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._waiting or self._closed)
                    if self._closed:
                        return
                    job = self._waiting.popleft()
                try:
                    result: RunResult | SandboxError = self._perform(job)
                except SandboxError as error:
                    result = error
                # a thread that dies silently would leave its caller waiting for ever
                except Exception as error:
                    result = SandboxError(f"the sandbox failed: {type(error).__name__}: {error}")
                with self._change:
                    if not job.cancelled:
                        self._done[job.ticket] = result
                    self._change.notify_all()
        finally:
            self._leave()
