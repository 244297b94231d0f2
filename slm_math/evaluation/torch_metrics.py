"""Evaluation records as a torchmetrics Metric, which merges the records of all ranks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch
from torchmetrics import Metric

from slm_math.metrics.summary import Summary, summarize
from slm_math.records.encoding import from_json, json_line
from slm_math.records.record import Record


class AgentMetrics(Metric):
    """Merges the records of all ranks; `compute` is `Summary.all_metrics()` of them.

    Pure functions compute every metric from the records themselves, so the result is the same for
    any number of ranks. A rank without records must take part, too. State: each record as a line of
    JSON, (bytes,) uint8.
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
        # torchmetrics leaves a rank with an empty list out of the gathering, for which the other
        # ranks would wait forever
        self.lines.append(torch.zeros(0, dtype=torch.uint8, device=self.device))

    def update(self, records: Iterable[Record]) -> None:
        """Adds records."""
        for record in records:
            self.lines.append(
                torch.frombuffer(bytearray(json_line(record)), dtype=torch.uint8).to(self.device)
            )

    def compute(self) -> dict[str, float]:
        """The metrics of the records of all ranks, by name."""
        return summarize(self._read()).all_metrics()

    def summary(self) -> Summary:
        """The same as a `Summary`; must be called on all ranks."""
        return summarize(self.records())

    def records(self) -> list[Record]:
        """The records of all ranks, in the order of ranks; must be called on all of them."""
        with self.sync_context():
            return self._read()

    def _read(self) -> list[Record]:
        lines = self.lines if isinstance(self.lines, list) else [self.lines]
        return [
            from_json(json.loads(line))
            for part in lines
            for line in part.cpu().numpy().tobytes().split(b"\n")
            if line
        ]
