"""How the programs that agents ran ended: the same metrics for a step of training and for an
evaluation.
"""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from slm_math.records.record import RunEvent

# error types with a metric of their own: a program can invent any number of others
BUILTIN_ERRORS = frozenset(
    name for name in vars(builtins) if name.endswith(("Error", "Exit", "Exception", "Interrupt"))
)
SANDBOX_ERRORS = frozenset(("OutputError", "Crash", "Exit"))


@dataclass(frozen=True)
class Programs:
    """Counts of programs: all, successful (`ok`), stopped at the time limit; their mean time in
    seconds, and errors by type.
    """

    runs: int
    ok: int
    timed_out: int
    seconds: float
    errors: Mapping[str, int]

    @property
    def share_ok(self) -> float:
        return self.ok / max(self.runs, 1)

    def metrics(self) -> dict[str, float]:
        """The counts as metrics; {} if no program ran."""
        if not self.runs:
            return {}
        metrics = {
            "programs": self.runs,
            "programs_ran": self.share_ok,
            "programs_timed_out": self.timed_out / self.runs,
            "program_seconds": self.seconds,
        }
        return metrics | {
            f"program_errors/{name}": count / self.runs for name, count in self.errors.items()
        }

    def shown(self) -> str:
        """One line for people: `300 programs, 85 % ok, 0.02 s each; NameError 31, SyntaxError 9,
        TimeoutError 5`.
        """
        errors = ", ".join(f"{name} {count}" for name, count in list(self.errors.items())[:6])
        line = f"{self.runs} programs, {100 * self.share_ok:.0f} % ok, {self.seconds:.3f} s each"
        return f"{line}; {errors}" if errors else line


class Program(NamedTuple):
    """How a program ended; `error` is "" for one that succeeded."""

    ok: bool
    timed_out: bool
    error: str


def program(run: RunEvent) -> Program:
    """How a program of a record ended."""
    return Program(run.ok, run.timed_out, "" if run.ok else _error_name(run.error_type))


def count_programs(ends: Mapping[Program, int], seconds: float) -> Programs:
    """Counts programs, given how many ended in each way, and their time in all."""
    n, errors = sum(ends.values()), Counter[str]()
    for one, count in ends.items():
        if not one.ok:
            errors[one.error] += count
    return Programs(
        runs=n,
        ok=sum(count for one, count in ends.items() if one.ok),
        timed_out=sum(count for one, count in ends.items() if one.timed_out),
        seconds=seconds / max(n, 1),
        errors=dict(sorted(errors.items(), key=lambda item: (-item[1], item[0]))),
    )


def _error_name(name: str) -> str:
    return name if name in BUILTIN_ERRORS or name in SANDBOX_ERRORS else "other"
