"""How a command ends before its end: by a signal, or because nobody reads its output any more."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

# launchers (torchrun, Slurm) pass on a signal that their process group has got already
SAME_REQUEST = 1.0  # seconds
LAUNCHER = "SLM_MATH_LAUNCHER"  # the process that may start ranks, for these
LINGERS = 10.0  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# by exit status, which is that of a shell for a signal; SIGPIPE stands for a closed output
REASONS = {
    128 + signal.SIGINT: "Ctrl-C",
    128 + signal.SIGTERM: "SIGTERM",
    128 + signal.SIGHUP: "SIGHUP",
    128 + signal.SIGPIPE: "a closed stdout",
    1: "a stdout that takes no more",
}


class Stopped(KeyboardInterrupt):
    """The command was asked to stop; `status` is its exit status.

    What handles Ctrl-C (Lightning, evaluations, executors) handles the other requests alike.
    """

    def __init__(self, status: int = 128 + signal.SIGINT, detail: str = "") -> None:
        self.reason = REASONS[status] + (f" ({detail})" if detail else "")
        super().__init__(self.reason)
        self.status = status
        self.reported = False  # a message has said what is saved

    @property
    def how(self) -> str:
        return "Interrupted" if self.status == 128 + signal.SIGINT else f"Stopped by {self.reason}"

    @classmethod
    def of(cls, error: KeyboardInterrupt) -> Stopped:
        """What an interrupt means; one without a request is Ctrl-C."""
        return error if isinstance(error, Stopped) else cls()


class Stopping:
    """Requests to stop this process. While `finishes` is set (between the first and the last step
    of an epoch), a request waits in `pending` for the end of a step; a second one stops at once. A
    signal within a second of a request is the same one.
    """

    def __init__(self) -> None:
        self.pending: Stopped | None = None
        self.finishes = False
        self.announces = True  # ranks other than the first one are silent
        self._process = os.getpid()
        self._asked = -SAME_REQUEST  # when the last signal came

    def reset(self) -> None:
        self.pending, self.finishes = None, False

    def take_signals(self, first: Mapping[Any, Any] | None = None) -> dict[int, Any]:
        """Handles Ctrl-C, SIGTERM and SIGHUP from now on; returns the handlers before.

        A signal that is ignored stays ignored (`nohup`, background jobs); `first` has the handlers
        before a library installed its own.
        """
        if threading.current_thread() is not threading.main_thread():
            return {}
        self._process, self._asked = os.getpid(), -SAME_REQUEST
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in before.items():
            ignored = signal.SIG_IGN in (handler, (first or {}).get(number))
            if handler is not None:
                signal.signal(number, signal.SIG_IGN if ignored else self._signaled)
        return {number: handler for number, handler in before.items() if handler is not None}

    def _signaled(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a forked worker: its parent decides, and ends it
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        now = time.monotonic()
        if now - self._asked < SAME_REQUEST:
            return
        self._asked = now
        stop = Stopped(128 + number)
        if not self.finishes or self.pending is not None:
            raise stop
        self.pending = stop
        if self.announces:
            say(f"\nstopping after this step ({stop.reason}; a second signal stops at once)")

    def output_failed(self, error: OSError) -> None:
        """Stops because stdout cannot be written; a step that is under way comes to its end."""
        broken = error.errno == errno.EPIPE
        stop = Stopped(128 + signal.SIGPIPE if broken else 1, os.strerror(error.errno or 0))
        if self.finishes or threading.current_thread() is not threading.main_thread():
            self.pending = self.pending or stop
        else:
            raise stop


stopping = Stopping()


class Output:
    """stdout, or stderr, that may be closed, or on a full disk. The first failure of stdout stops
    the command; whatever follows is dropped, so that what is under way can end and be saved.
    """

    def __init__(self, stream: Any, stops: bool) -> None:
        self._stream = stream
        self._stops = stops
        self._broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not self._broken:
            try:
                self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        if not self._broken:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._broken = True
        with suppress(OSError, ValueError):  # what is still in its buffer would fail at exit
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self._stops:
            stopping.output_failed(error)


@contextmanager
def stoppable() -> Iterator[None]:
    """Runs a command that signals and a closed output stop with `Stopped`."""
    _reserve_standard_files()
    stopping.reset()
    before, streams = stopping.take_signals(), (sys.stdout, sys.stderr)
    out = Output(sys.stdout, stops=True)
    if sys.stdout is not None:
        sys.stdout = out
    if sys.stderr is not None:
        sys.stderr = Output(sys.stderr, stops=False)
    try:
        try:
            yield
        finally:
            if sys.stdout is out:
                out.flush()
        if stopping.pending is not None:  # only a thread noticed
            raise stopping.pending
    finally:
        sys.stdout, sys.stderr = streams
        stopping.reset()
        for number, handler in before.items():
            signal.signal(number, handler)


def started_by_launcher() -> bool:
    """Whether Lightning, in a process of this program, started this one as a further rank. To be
    called once, at the start, since ranks that this process starts then know it.
    """
    started = os.environ.get(LAUNCHER) == str(os.getppid())
    os.environ[LAUNCHER] = str(os.getpid())
    return started and os.environ.get("LOCAL_RANK", "0") != "0"


def outlive(parent: int) -> None:
    """Waits for the end of the first rank, for ten seconds at most: it kills itself, with what it
    would still save or say, when a rank that it started ends before it with a failure. But it may
    also wait for this one in a call that no signal interrupts, and then that ends it.
    """
    end = time.monotonic() + LINGERS
    while os.getppid() == parent and time.monotonic() < end:
        time.sleep(0.05)


def _reserve_standard_files() -> None:
    """Opens what is closed of the three standard files: the next file that is opened would get its
    number, and then all that subprocesses print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def say(text: str) -> None:
    """Writes a line to stderr at once, which a signal handler may do at any time."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
