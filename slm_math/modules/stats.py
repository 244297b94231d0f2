"""What a GRPO step measures, and what it has to say about rollouts that teach nothing or the wrong thing."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from slm_math.losses.advantages import spread
from slm_math.rewards import Scores
from slm_math.types import Sampling, Trace


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


class Notices:
    """Tells people, once each, why a role cannot learn or learns from biased samples."""

    def __init__(self, roles: Sequence[str], sampling: Sampling) -> None:
        self.roles = tuple(roles)
        self.sampling = sampling
        self._scored = False
        self._truncated: set[str] = set() if not sampling.truncated else set(roles)  # the module warned of those

    def decoding(self, traces: Sequence[Sequence[Trace]]) -> None:
        """Warns when an agent itself asked for greedy or truncated samples of a role that learns."""
        for turn in (turn for group in traces for trace in group for turn in trace.turns):
            role, used = turn.request.role, turn.request.sampling(self.sampling)
            if role not in self.roles or role in self._truncated or not used.truncated:
                continue
            self._truncated.add(role)
            effect = (
                "greedy turns are not learnt"
                if used.temperature == 0
                else "samples come from a truncated distribution, which biases the gradient"
            )
            warnings.warn(
                f"the agent samples the trained role {role!r} with temperature {used.temperature:g}, "
                f"top_p {used.top_p:g}, top_k {used.top_k}: {effect}",
                stacklevel=2,
            )

    def scoring(self, rollouts: Sequence[tuple[Trace, Scores]]) -> None:
        """On the first step with whole workflows: trained roles without a reward, and rewards of untrained roles."""
        whole = [(trace, scores) for trace, scores in rollouts if trace.error is None]
        if self._scored or not whole:
            return
        self._scored = True
        scored = {role for _, scores in whole for role in scores}
        for role in self.roles:
            if role not in scored:
                spoke = any(turn.request.role == role for trace, _ in whole for turn in trace.turns)
                what = "no reward scores the trained role" if spoke else "nothing was said by the trained role"
                print(f"warning: {what} {role!r}: it has nothing to learn from")
        for role in sorted(scored - set(self.roles)):
            print(f"warning: a reward scores role {role!r}, which is not in train_roles ({', '.join(self.roles)})")


def problems_of(step: int, traces: Sequence[Sequence[Trace]], rewards: Mapping[str, Tensor], mean: float) -> list[str]:
    """One line when workflows broke, and one when no group of the step teaches anything."""
    broken = [trace.error for group in traces for trace in group if trace.error is not None]
    total = sum(len(group) for group in traces)
    lines = [f"step {step}: {len(broken)} of {total} workflows broke, the first: {broken[0]}"] if broken else []
    if not any(spread(table).any() for table in rewards.values()):
        lines.append(
            f"step {step}: all {len(traces)} groups are dead (the samples of a problem earned the same, "
            f"mean reward {mean:.2f}): nothing to learn from"
        )
    return lines
