"""Watches whether a verifier comes to approve of wrong drafts, as one may that learns beside a
solver who is paid for its approval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from slm_math.metrics.facts import judgments, solved_problem
from slm_math.records.record import Record

RISK = 0.01  # of a false alarm in a whole run, however long it is


@dataclass
class Block:
    """Verdicts on wrong drafts, by problem: [how many were CORRECT, how many there were]."""

    problems: dict[str, list[int]] = field(default_factory=dict)

    def add(self, problem: str, approves: bool) -> None:
        counts = self.problems.setdefault(problem, [0, 0])
        counts[0] += approves
        counts[1] += 1

    @property
    def total(self) -> int:
        return sum(n for _, n in self.problems.values())

    @property
    def share(self) -> float:
        """P(CORRECT | wrong draft)."""
        return sum(x for x, _ in self.problems.values()) / self.total

    def estimate(self) -> tuple[float, float]:
        """The share and its variance, with one more verdict of either kind (Agresti and Caffo
        2000), so that no variance is 0.

        Verdicts on one problem are alike: the variance is at least that of a ratio of sums over
        problems (Cochran 1977, section 6.3).
        """
        n, share, problems = self.total, self.share, len(self.problems)
        smoothed = (share * n + 1) / (n + 2)
        variance = smoothed * (1 - smoothed) / (n + 2)
        if problems > 1:
            squares = sum((x - share * of) ** 2 for x, of in self.problems.values())
            variance = max(variance, problems / (problems - 1) * squares / n**2)
        return smoothed, variance


class DriftWatch:
    """Warns, once for each role, when P(CORRECT | wrong draft) has clearly risen from its start.

    The verdicts on wrong drafts are counted in blocks. The first block is the start, and each later
    block k = 1, 2, ... is compared with it once, by a one-sided test at the level RISK / (k (k +
    1)). These levels sum to RISK, the probability that a run without a rise is ever warned of.

    Args:
        verdicts: a block is full at the end of the step in which it has so many,
        problems: about drafts of so many problems.
    """

    def __init__(self, verdicts: int = 100, problems: int = 20) -> None:
        self.verdicts, self.problems = verdicts, problems
        self._start: dict[str, Block] = {}
        self._open: dict[str, Block] = {}
        self._compared: dict[str, int] = {}  # how many blocks; -1 after a warning

    def of_step(self, records: Sequence[Record]) -> Iterable[str]:
        """What there is to say after a step with these records, a line each."""
        for record in records:
            for judgment in judgments(record):
                if not judgment.correct:
                    block = self._open.setdefault(judgment.role, Block())
                    block.add(solved_problem(record), judgment.verdict == "CORRECT")
        for role, block in list(self._open.items()):
            if block.total >= self.verdicts and len(block.problems) >= self.problems:
                del self._open[role]
                yield from self._compare(role, block)

    def _compare(self, role: str, block: Block) -> Iterable[str]:
        start = self._start.setdefault(role, block)
        k = self._compared.get(role, 0)
        if start is block or k < 0:
            return
        self._compared[role] = k = k + 1
        (before, variance), (now, more) = start.estimate(), block.estimate()
        z = (now - before) / math.sqrt(variance + more)
        if z > NormalDist().inv_cdf(1 - RISK / (k * (k + 1))):
            self._compared[role] = -1
            yield (
                f"warning: role {role!r} calls {100 * block.share:.0f} % of wrong drafts CORRECT "
                f"(the last {block.total} verdicts on them), {100 * start.share:.0f} % at the "
                f"start ({start.total}): it drifts toward agreement (train/approves_wrong). Go "
                "back to an earlier checkpoint, lower the weight of VerifierApproval, or freeze "
                "one role (frozen, alternate). It may also be that the drafts that are still "
                "wrong are harder to tell"
            )

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the start of a run is that of all its sessions."""
        blocks = {"start": self._start, "open": self._open}
        plain = {
            name: {role: block.problems for role, block in each.items()}
            for name, each in blocks.items()
        }
        return plain | {"compared": dict(self._compared)}

    def load(self, state: Mapping[str, Any]) -> None:
        self._start, self._open = (
            {role: Block(dict(problems)) for role, problems in state.get(name, {}).items()}
            for name in ("start", "open")
        )
        self._compared = dict(state.get("compared", {}))
