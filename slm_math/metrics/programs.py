"""What became of the programs that agents ran: the same figures for a step of training and for an
evaluation.
"""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# errors that a program invents would be a metric each
KNOWN = frozenset(
    name for name in vars(builtins) if name.endswith(("Error", "Exit", "Exception", "Interrupt"))
)
OWN = frozenset(("OutputError", "Crash", "Exit"))


@dataclass(frozen=True)
class Programs:
    """Programs that ran, how many ended well, how many were out of time, mean seconds, and errors
    by type.
    """

    runs: int
    ok: int
    timed_out: int
    seconds: float
    errors: Mapping[str, int]

    @property
    def share_ok(self) -> float:
        return self.ok / max(self.runs, 1)

    def values(self) -> dict[str, float]:
        """As metrics; nothing where no program ran."""
        if not self.runs:
            return {}
        values = {
            "programs": self.runs,
            "programs_ran": self.share_ok,
            "programs_timed_out": self.timed_out / self.runs,
            "program_seconds": self.seconds,
        }
        return values | {
            f"program_errors/{name}": count / self.runs for name, count in self.errors.items()
        }

    def shown(self) -> str:
        """One line for people: `300 programs, 85 % ran, 0.02 s each; NameError 31, SyntaxError 9,
        TimeoutError 5`.
        """
        errors = ", ".join(f"{name} {count}" for name, count in list(self.errors.items())[:6])
        line = f"{self.runs} programs, {100 * self.share_ok:.0f} % ran, {self.seconds:.3f} s each"
        return f"{line}; {errors}" if errors else line


def programs(results: Iterable[Mapping[str, Any]]) -> Programs:
    """Count results (`ok`, `timed_out`, `seconds`, `error_type`, as of a RunResult or of a record
    of one).
    """
    rows = list(results)
    errors = Counter(_kind(row.get("error_type", "")) for row in rows if not row["ok"])
    return Programs(
        runs=len(rows),
        ok=sum(row["ok"] for row in rows),
        timed_out=sum(row["timed_out"] for row in rows),
        seconds=sum(row["seconds"] for row in rows) / max(len(rows), 1),
        errors=dict(sorted(errors.items(), key=lambda item: (-item[1], item[0]))),
    )


def _kind(name: str) -> str:
    return name if name in KNOWN or name in OWN else "other"
