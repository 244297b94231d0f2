"""How a program ended, as the kernel and the zygote saw it, and the result that a caller gets."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from slm_math.sandbox import child
from slm_math.sandbox.zygote import BY_CLOCK, BY_CPU, BY_ITSELF
from slm_math.types import RunResult

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,16}\b")  # "<function f at 0x7f3a0c1d2e50>"


@dataclass(frozen=True)
class Limits:
    """What one program may use: processor and wall seconds, MiB of memory, KiB of output."""

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
        """Bytes of output, and of what else a program can send."""
        return self.output_kb << 10


@dataclass(frozen=True)
class Outcome:
    """Exit status (or minus the signal), seconds used, why it was killed, what it wrote (`report`
    after the mark).
    """

    status: int
    cpu: float
    seconds: float
    why: bytes
    stdout: bytes
    stderr: bytes
    report: bytes

    def out_of_time(self, allowed: float) -> bool:
        """Whether it used up its processor time, whoever stopped it then."""
        return (
            self.why == BY_CPU
            or self.status == -signal.SIGXCPU
            or (self.status < 0 and self.cpu >= allowed)
        )

    def killed_from_outside(self, allowed: float) -> bool:
        """By neither the sandbox nor itself (it cannot): the machine ran out of memory, or somebody
        cleaned up.
        """
        return (
            self.status == -signal.SIGKILL
            and self.why == BY_ITSELF
            and not self.out_of_time(allowed)
        )


def result(
    outcome: Outcome, limits: Limits, cpu: float, wall: float, hidden: Sequence[str]
) -> RunResult:
    """What the caller gets of a program that had `cpu` and `wall` seconds: no folders of this host,
    no addresses.

    What the machine kills again and again counts as out of memory: the machine's memory is then too
    small for it.
    """
    told = child.report(outcome.report)
    value = told["value"]
    output_overflow = len(outcome.stdout) > limits.output or len(value) > limits.output
    over = outcome.out_of_time(cpu)
    timed_out = not output_overflow and (over or outcome.why == BY_CLOCK)
    kind, message, line = told["error_type"], told["message"], told["error_line"]
    if output_overflow:
        kind, message = (
            "OutputError",
            f"the program was stopped after {limits.output_kb} KB of output",
        )
    elif timed_out:
        allowed = f"{cpu:g} s of processor time" if over else f"{wall:g} s"
        kind, message = "TimeoutError", f"the program took more than {allowed}"
    elif outcome.killed_from_outside(cpu):
        kind, message = "MemoryError", "the program was killed: the machine had no memory left"
    elif outcome.status < 0:
        kind, message = "Crash", f"the program crashed ({_signal(-outcome.status)})"
    elif not kind and (outcome.status > 0 or not told["whole"]):
        kind, message = (
            "Exit",
            f"the program ended with status {outcome.status} before its last line",
        )
    ok = outcome.status == 0 and told["whole"] and not output_overflow and not timed_out
    if ok:
        kind, message, line = "", "", 0
    elif kind != told["error_type"]:
        line = 0
    head = f"line {line}: " if line else ""
    text = f"{head}{kind}{': ' if message else ''}{message}" if not ok else ""
    clean = _Cleaner(hidden)
    return RunResult(
        ok=ok,
        stdout=clean(outcome.stdout[: limits.output].decode("utf-8", "replace")),
        stderr=clean(outcome.stderr[: limits.output].decode("utf-8", "replace")),
        value=clean(value[: limits.output].decode("utf-8", "replace")) if ok else "",
        error=clean(text),
        error_type=kind,
        error_line=line,
        timed_out=timed_out,
        out_of_memory=kind == "MemoryError",
        output_overflow=output_overflow,
        seconds=outcome.seconds,
    )


class _Cleaner:
    """Takes the host's folders and memory addresses out of a text."""

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
