"""Runs the steps of a plan, as many at once as it says, until all are done or one fails."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ladder.plan import ROOT, Plan, Step
from ladder.progress import Progress, last_line
from ladder.steps import Steps

SLM_MATH = (sys.executable, "-m", "slm_math")
_PR_SET_PDEATHSIG = 1
# options in the environment would be part of no command
_HIDDEN_OPTIONS = ("SLM_MATH_FIT_", "SLM_MATH_EVAL_")


class StepFailed(Exception):
    """A step ended without a whole result. The message has its log and the command to repeat."""


@dataclass
class _Running:
    step: Step
    process: subprocess.Popen[bytes]
    begun: float
    log: Path
    attempt: int


class Driver:
    """Runs steps as processes of their own, which end when this one does, even if it is killed.

    `program` is what runs the command of a step; `pause` are the seconds between two looks at
    what runs.
    """

    def __init__(
        self,
        plan: Plan,
        steps: Steps,
        progress: Progress,
        program: Sequence[str] = SLM_MATH,
        pause: float = 0.2,
    ) -> None:
        self.plan, self.steps, self.progress = plan, steps, progress
        self.program, self.pause = program, pause
        self._running: dict[str, _Running] = {}

    def run(self) -> None:
        """Runs what is not done. Raises StepFailed, after the other steps that ran have stopped."""
        try:
            while len(self.steps.done) < len(self.plan.steps):
                self._start_ready()
                self._wait()
        finally:
            self._stop()

    def _start_ready(self) -> None:
        for step in self.steps.ready():
            if len(self._running) >= self.plan.jobs:
                return
            # what a step reads may have come out as before, and then it is done already
            if step.name not in self._running and not self.steps.look(step):
                self._start(step)

    def _start(self, step: Step, attempt: int = 1) -> None:
        told = self.steps.begin(step)
        log = self.steps.out / "logs" / f"{step.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        self.progress.begins(step, log, told)
        with log.open("ab") as file:
            file.write(f"$ {step.shown()}\n".encode())
            file.flush()
            process = subprocess.Popen(
                [*self.program, *step.command],
                cwd=ROOT,
                env=_environment(self.plan.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the driver alone, which stops its steps
                preexec_fn=_die_with_parent,
            )
        self._running[step.name] = _Running(step, process, time.monotonic(), log, attempt)

    def _wait(self) -> None:
        """Waits until a step ends, or for a moment."""
        shown = {name: (each.begun, each.log) for name, each in self._running.items()}
        self.progress.update(shown, self.steps.done)
        time.sleep(self.pause)
        for running in list(self._running.values()):
            if (status := self._status(running)) is not None:
                self._ended(running, status)

    def _status(self, running: _Running) -> int | None:
        """The exit status of a step that has ended; what it took is written down."""
        pid, status, usage = os.wait4(running.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        running.process.returncode = os.waitstatus_to_exitcode(status)
        del self._running[running.step.name]
        seconds = time.monotonic() - running.begun
        self.steps.spend(running.step, seconds, usage.ru_utime + usage.ru_stime)
        return running.process.returncode

    def _ended(self, running: _Running, status: int) -> None:
        step = running.step
        if status == 0 and self.steps.end(step):
            self.progress.say(f"{step.name}: done in {self.steps.done[step.name].seconds:.0f} s")
            return
        if status == 0 and running.attempt == 1:
            # a run whose checkpoint is finished, and whose export is gone, has nothing left to do
            aside = self.steps.set_aside(step)
            self.progress.say(f"{step.name}: its result is not whole; {aside} has what it left")
            self._start(step, attempt=2)
            return
        reason = f"ended with status {status}" if status else "left no whole result"
        raise StepFailed(
            f"step {step.name} {reason}: {last_line(running.log)}\n"
            f"its log: {running.log}\n"
            f"the command to repeat, in {ROOT}:\n  {step.shown()}"
        )

    def _stop(self) -> None:
        """Asks all running steps to stop, and waits for them; a second signal kills them."""
        if not self._running:
            return
        self.progress.say(f"stopping {', '.join(self._running)}; a second Ctrl-C stops at once")
        for running in self._running.values():
            with suppress(ProcessLookupError):
                running.process.terminate()
        try:
            while self._running:
                time.sleep(0.1)
                for running in list(self._running.values()):
                    self._status(running)
        except KeyboardInterrupt:
            for running in list(self._running.values()):
                with suppress(ProcessLookupError):
                    os.killpg(running.process.pid, signal.SIGKILL)
                running.process.wait()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN_OPTIONS)
    }
    return own | dict(more)


def _die_with_parent() -> None:
    """Of a step whose driver is killed, no process goes on in the folder of the next driver."""
    with suppress(OSError, AttributeError):  # only Linux can
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Only one driver at a time writes to a folder. Raises ValueError if another one does."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "ladder.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"{out} is in use by {file.read().strip() or 'another process'}: wait for its end, "
                "stop it, or choose another --out"
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
