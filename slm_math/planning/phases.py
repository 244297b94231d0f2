"""What a run is predicted to take, by phase."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from slm_math.planning.memory import Resident
from slm_math.planning.network import Sizes


@dataclass(frozen=True)
class Phase:
    """A phase of a run.

    Args:
        name: of the phase.
        bytes: the most memory while it lasts.
        seconds: its part of a step; None if it is none.
    """

    name: str
    bytes: int
    seconds: float | None = None


@dataclass(frozen=True)
class RunPlan:
    """What a run is predicted to take.

    Args:
        phases: by phase.
        sizes: of the network.
        resident: what stays in memory.
        idle: bytes of the process without a model.
        tokens: of a step's rows, in the mean.
        positions: that the network reads of a micro-batch, at most.
        micro_batches: of the largest step.
        rows: that are trained on in the largest step.
        flops: of the matrix products of the mean step.
    """

    phases: tuple[Phase, ...]
    sizes: Sizes
    resident: Resident
    idle: int
    tokens: float
    positions: int
    micro_batches: int
    rows: int
    flops: float

    @property
    def peak(self) -> int:
        return max(phase.bytes for phase in self.phases)

    @property
    def highest(self) -> Phase:
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def seconds(self) -> float:
        """Of a step."""
        return sum(phase.seconds or 0.0 for phase in self.phases)


def merged(phases: list[Phase]) -> Iterator[Phase]:
    """Phases of one name as one."""
    for name in dict.fromkeys(phase.name for phase in phases):
        own = [phase for phase in phases if phase.name == name]
        seconds = [phase.seconds for phase in own if phase.seconds is not None]
        yield Phase(name, max(phase.bytes for phase in own), sum(seconds) if seconds else None)
