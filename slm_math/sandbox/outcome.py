"""How a program ended, as seen by the kernel and the zygote, and the result for the caller."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from slm_math.sandbox import child
from slm_math.sandbox.zygote import BY_CLOCK, BY_CPU, BY_ITSELF
from slm_math.types import RunResult

# how many times as much as is kept a program may write before it is stopped
FLOOD = 80
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,16}\b")  # "<function f at 0x7f3a0c1d2e50>"


@dataclass(frozen=True)
class Limits:
    """The limits of one program: seconds of processor and wall time, MiB memory, and KiB output:
    so much is kept of each output, the beginning and the end.
    """

    cpu_seconds: float
    wall_seconds: float
    memory_mb: int
    output_kb: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            whole = name in ("memory_mb", "output_kb")
            number = isinstance(value, int if whole else (int, float)) and not isinstance(
                value, bool
            )
            if not number or not 0 < value < 10**7:
                kind = "a whole number" if whole else "a number"
                raise ValueError(
                    f"{name} of a sandbox must be {kind} between 0 and 10,000,000, not {value!r}"
                )

    @property
    def output(self) -> int:
        """The bytes that are kept of each output of a program: stdout, stderr and its value."""
        return self.output_kb << 10

    @property
    def flood(self) -> int:
        """The bytes of all outputs together after which a program is stopped."""
        return FLOOD * self.output


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    `status` is its exit status, or minus the number of the signal that ended it. `cpu` and
    `seconds` are processor and wall time. `why` says why the zygote killed it. Of `stdout`,
    `stderr` and `report` the beginning and the end are kept; `report` comes without its ready mark.
    `written` counts the bytes of all three.
    """

    status: int
    cpu: float
    seconds: float
    why: bytes
    stdout: str
    stderr: str
    report: str
    written: int

    def out_of_time(self, allowed: float) -> bool:
        """Whether the program used up its `allowed` processor seconds, however it was stopped."""
        return (
            self.why == BY_CPU
            or self.status == -signal.SIGXCPU
            or (self.status < 0 and self.cpu >= allowed)
        )

    def killed_from_outside(self, allowed: float) -> bool:
        """Whether it was killed by neither the sandbox nor itself, as it cannot kill itself.

        The machine ran out of memory, for example.
        """
        return (
            self.status == -signal.SIGKILL
            and self.why == BY_ITSELF
            and not self.out_of_time(allowed)
        )


def result(
    outcome: Outcome, limits: Limits, cpu: float, wall: float, hidden: Sequence[str]
) -> RunResult:
    """The result of a program that was allowed `cpu` and `wall` seconds.

    Folders of this host (`hidden`) and memory addresses are removed from all texts. A program that
    the machine killed in every attempt counts as out of memory.
    """
    report = child.report(outcome.report)
    output_overflow = outcome.written > limits.flood
    over = outcome.out_of_time(cpu)
    timed_out = not output_overflow and (over or outcome.why == BY_CLOCK)
    kind, message, line = report["error_type"], report["message"], report["error_line"]
    if output_overflow:
        kind = "OutputError"
        message = f"the program was stopped after {limits.flood >> 10} KB of output"
    elif timed_out:
        allowed = f"{cpu:g} s of processor time" if over else f"{wall:g} s"
        kind, message = "TimeoutError", f"the program took more than {allowed}"
    elif outcome.killed_from_outside(cpu):
        kind, message = "MemoryError", "the program was killed: the machine had no memory left"
    elif outcome.status < 0:
        kind, message = "Crash", f"the program crashed ({_signal(-outcome.status)})"
    elif not kind and (outcome.status > 0 or not report["whole"]):
        kind = "Exit"
        message = f"the program ended with status {outcome.status} before its last line"
    ok = outcome.status == 0 and report["whole"] and not output_overflow and not timed_out
    if ok:
        kind, message, line = "", "", 0
    elif kind != report["error_type"]:
        line = 0
    head = f"line {line}: " if line else ""
    text = f"{head}{kind}{': ' if message else ''}{message}" if not ok else ""
    clean = _Cleaner(hidden)
    return RunResult(
        ok=ok,
        stdout=clean(outcome.stdout),
        stderr=clean(outcome.stderr),
        value=clean(report["value"]) if ok else "",
        error=clean(text),
        error_type=kind,
        error_line=line,
        timed_out=timed_out,
        out_of_memory=kind == "MemoryError",
        output_overflow=output_overflow,
        seconds=outcome.seconds,
    )


class _Cleaner:
    """Removes the host's folders and memory addresses from a text."""

    def __init__(self, hidden: Sequence[str]) -> None:
        self.hidden = hidden

    def __call__(self, text: str) -> str:
        if "/" in text:
            for folder in self.hidden:
                text = text.replace(folder, "")
        return _ADDRESS.sub("", text) if " at 0x" in text else text


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
