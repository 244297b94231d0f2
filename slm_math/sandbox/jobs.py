"""A queue of programs for worker threads, with tickets, results and cancellation."""

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
class ProgramJob:
    """A program that waits or runs."""

    ticket: int
    request: RunPython
    awaited: bool = False  # whether `run` waits for it, so that `poll` does not return it
    canceled: bool = False
    handle: Any = None  # the worker or the socket through which `_interrupt` can stop it


class Jobs:
    """Runs jobs on up to `workers` threads of its own, also while nobody polls.

    All methods may be called from any thread. A subclass defines how to run a job (`_perform`), how
    to stop one (`_interrupt`), and how a thread cleans up (`_leave`).
    """

    def __init__(self, workers: int, closing_seconds: float | None = None) -> None:
        if workers < 1:
            raise ValueError(f"a sandbox needs at least one worker, got {workers}")
        self.workers = workers
        # how long `close` waits for threads; None: until they have ended
        self._closing_seconds = closing_seconds
        self._reset()
        this = weakref.ref(self)
        # a forked process has none of its parent's threads: its copy starts empty
        os.register_at_fork(after_in_child=lambda: (jobs := this()) and jobs._reset())

    def _perform(self, job: ProgramJob) -> RunResult:
        """Run one program. Called on one of the threads. Raises SandboxError."""
        raise NotImplementedError

    def _interrupt(self, job: ProgramJob) -> None:
        """Stop a program that may be running. Called with the lock held."""

    def _leave(self) -> None:
        """Clean up at the end of a thread. Called on that thread."""

    def _reset(self) -> None:
        self._change = threading.Condition()
        self._waiting: deque[ProgramJob] = deque()
        self._jobs: dict[int, ProgramJob] = {}
        self._done: dict[int, RunResult | SandboxError] = {}
        self._threads: list[threading.Thread] = []
        self._tickets = 0
        self._closed = False

    def start(self) -> None:
        """Check that programs can run, and reopen a closed sandbox. Raises SandboxError."""
        if self._closed:
            self._reset()
        self.run("")

    def submit(self, request: RunPython) -> int:
        """Queue a program and return its ticket."""
        return self._enqueue(request).ticket

    def poll(self, timeout: float = 0.0) -> list[tuple[int, RunResult]]:
        """The (ticket, result) pairs that are new since the last call.

        Waits at most `timeout` seconds for the first one. Raises SandboxError if a program could
        not be run, after all results have been returned, and drops the ticket of that program.
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
            for ticket, result in ready.items() if not results else ():  # else the next call raises
                self._forget(ticket)
                if isinstance(result, SandboxError):
                    raise result
            return results

    def cancel(self, ticket: int) -> None:
        """Drop a program, and stop it if it runs. Its result is never returned."""
        with self._change:
            job = self._jobs.get(ticket)
            if job is None:
                return
            self._forget(ticket)
            job.canceled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._interrupt(job)

    def run(self, code: str, earlier: Sequence[str] = (), turns: int = 0) -> RunResult:
        """Run one program after the earlier blocks of its session, and wait for its result.

        The arguments are those of `RunPython`. Raises SandboxError if the program could not be run.
        """
        job = self._enqueue(RunPython(code, tuple(earlier), turns), awaited=True)
        try:
            with self._change:
                self._change.wait_for(lambda: job.ticket in self._done or job.canceled)
                result = self._done.get(job.ticket, SandboxError("the sandbox was closed"))
        finally:
            self.cancel(job.ticket)  # also after Ctrl-C
        if isinstance(result, SandboxError):
            raise result
        return result

    @property
    def busy(self) -> int:
        """The number of programs whose result has not been returned."""
        with self._change:
            return len(self._jobs)

    def close(self) -> None:
        """Stop all programs; afterwards no process is left."""
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

    def _enqueue(self, request: RunPython, awaited: bool = False) -> ProgramJob:
        with self._change:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            self._tickets += 1
            job = self._jobs[self._tickets] = ProgramJob(self._tickets, request, awaited)
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
                # if the thread ended silently, the caller would wait forever
                except Exception as error:
                    result = SandboxError(f"the sandbox failed: {type(error).__name__}: {error}")
                with self._change:
                    if not job.canceled:
                        self._done[job.ticket] = result
                    self._change.notify_all()
        finally:
            self._leave()
