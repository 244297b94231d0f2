"""What a GRPO step measures: seconds per phase, and sums over its tokens."""

from __future__ import annotations

import time
from typing import Any


class Clock:
    """Seconds per phase of a step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now


class Sums:
    """Sums over the tokens of all updates of a step."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, sums: dict[str, Any], **more: Any) -> None:
        for name, value in (sums | more).items():
            self.values[name] = self.values.get(name, 0.0) + float(value)

    def means(self, passes: int = 1) -> dict[str, float]:
        """Token means of what was summed over tokens; the losses, which are weighted already, as means of passes."""
        tokens = max(self.values.get("tokens", 0.0), 1.0)
        names = {"entropy_sum": "entropy", "kl_sum": "kl", "ratio_sum": "ratio", "drift": "drift"}
        names |= {"clip_low": "clip_low", "clip_high": "clip_high"}
        kept = {name: self.values[name] / passes for name in ("loss", "policy_loss") if name in self.values}
        return kept | {short: self.values[name] / tokens for name, short in names.items() if name in self.values}
