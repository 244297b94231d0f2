"""Runs programs that a model wrote: each in a process of its own, with limits on time, memory, output and rights.

What a program cannot do: change a file, use the network, start a process or thread, signal others, see the
environment, outlive its time, or pass anything on to the next program. Where the kernel has Landlock (Linux 5.13 on,
unless switched off) it can read Python, a few packages (sympy, mpmath, numpy, scipy), the system's libraries, and
nothing else; without Landlock it can read every file that this user can. Not stopped: bugs in the kernel, side
channels, seeing that a file exists, and using up the program's own share of time and memory.
"""

from __future__ import annotations

import platform
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass

from slm_math.sandbox.process import Limits, Program, SandboxError, rights
from slm_math.types import RunPython, RunResult


@dataclass
class Job:
    """One program on its way through the sandbox."""

    ticket: int
    program: Program
    awaited: bool = False  # by `run`, so `poll` leaves it alone
    cancelled: bool = False


class Sandbox:
    """Runs Python programs side by side, `workers` at a time, on threads of its own.

    Limits per program: `cpu_seconds` of processor time, `wall_seconds` from its start (for sleepers: give a loaded
    machine twice the processor time and more), `memory_mb` MiB of address space, `output_kb` KiB of output. The same
    program gives the same output: hashes and random numbers have fixed seeds. Raises SandboxError where programs
    cannot be confined (see `unavailable`).
    """

    def __init__(
        self,
        workers: int = 2,
        cpu_seconds: float = 5,
        wall_seconds: float = 12,
        memory_mb: int = 1024,
        output_kb: int = 16,
    ) -> None:
        reason = self.unavailable()
        if reason is not None:
            raise SandboxError(reason)
        if workers < 1:
            raise ValueError(f"a sandbox needs at least one worker, got {workers}")
        self.workers = workers
        self.limits = Limits(cpu_seconds, wall_seconds, memory_mb, output_kb)
        self._change = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: dict[int, Job] = {}
        self._done: dict[int, RunResult | SandboxError] = {}
        self._threads: list[threading.Thread] = []
        self._tickets = 0
        self._closed = False
        # no program can write to it, so they share it
        self._folder = tempfile.TemporaryDirectory(prefix="slm-math-", ignore_cleanup_errors=True)
        self._rights = rights(self._folder.name)

    @staticmethod
    def unavailable() -> str | None:
        """One line saying why programs cannot be run here, or None when they can."""
        system, machine = platform.system(), platform.machine()
        if system != "Linux" or machine not in ("x86_64", "aarch64"):
            return f"running a model's programs needs Linux on x86-64 or arm64 (this is {system} on {machine})"
        return None

    def submit(self, request: RunPython) -> int:
        """Queue a program; returns its ticket."""
        return self._enqueue(request.code).ticket

    def poll(self, timeout: float = 0.0) -> list[tuple[int, RunResult]]:
        """What has finished since the last call; waits at most `timeout` seconds if nothing has.

        Raises SandboxError when a program could not be started, even at a second try; its ticket is then closed.
        """
        with self._change:
            self._change.wait_for(lambda: self._ready() or not self._jobs, timeout)
            results: list[tuple[int, RunResult]] = []
            for ticket in self._ready():
                result = self._done[ticket]
                if isinstance(result, SandboxError):
                    if results:
                        break  # hand out what went well; the next call raises
                    self._forget(ticket)
                    raise result
                self._forget(ticket)
                results.append((ticket, result))
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
        job.program.kill()

    def run(self, code: str) -> RunResult:
        """Run one program and wait for it. Raises SandboxError when it could not be started."""
        job = self._enqueue(code, awaited=True)
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
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, code: str, awaited: bool = False) -> Job:
        with self._change:
            if self._closed:
                raise SandboxError("the sandbox is closed")
            self._tickets += 1
            program = Program(code, self.limits, self._folder.name, self._rights)
            job = self._jobs[self._tickets] = Job(self._tickets, program, awaited)
            self._waiting.append(job)
            if len(self._threads) < self.workers:
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
        """A thread's life. It outlives its children: the kernel kills them when the thread that made them ends."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._waiting.popleft()
            result = self._attempt(job)
            if isinstance(result, SandboxError) and not job.cancelled:
                time.sleep(0.1)  # out of processes or memory for a moment, perhaps
                result = self._attempt(job)
            with self._change:
                if not job.cancelled:
                    self._done[job.ticket] = result
                self._change.notify_all()

    def _attempt(self, job: Job) -> RunResult | SandboxError:
        try:
            return job.program.run()
        except SandboxError as error:
            return error
        except Exception as error:  # a thread that dies silently would leave its caller waiting for ever
            return SandboxError(f"the sandbox could not run a program: {type(error).__name__}: {error}")
