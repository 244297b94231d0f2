"""Evaluation records as a torchmetrics Metric: a thin shell around `summarise`, right under DDP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torchmetrics import Metric

from slm_math.metrics.summary import Summary, summarise
from slm_math.records.record import json_line


class AgentMetrics(Metric):
    """Collects records (`rollout.record`); `compute` is `Summary.values()` of those of all ranks.

    Every figure is computed by pure functions from the records themselves, so it is the same for
    any number of ranks; a rank without records takes part. State: each record as a line of JSON,
    (bytes,) uint8.
    """

    full_state_update = False
    lines: list[torch.Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("lines", default=[], dist_reduce_fx="cat")
        self._begin()

    def reset(self) -> None:
        super().reset()
        self._begin()

    def _begin(self) -> None:
        # a rank with an empty list would not take part in gathering, and the others would wait for
        # it for ever
        self.lines.append(torch.zeros(0, dtype=torch.uint8, device=self.device))

    def update(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records."""
        for record in records:
            self.lines.append(
                torch.frombuffer(bytearray(json_line(record)), dtype=torch.uint8).to(self.device)
            )

    def compute(self) -> dict[str, float]:
        """What the records of all ranks come to, by name."""
        return summarise(self._read()).values()

    def summary(self) -> Summary:
        """The same as a `Summary`; to be called on all ranks."""
        return summarise(self.records())

    def records(self) -> list[dict[str, Any]]:
        """The records of all ranks, in the order of ranks; to be called on all of them."""
        with self.sync_context():
            return self._read()

    def _read(self) -> list[dict[str, Any]]:
        lines = self.lines if isinstance(self.lines, list) else [self.lines]
        return [
            json.loads(line)
            for part in lines
            for line in bytes(part.cpu().tolist()).split(b"\n")
            if line
        ]
