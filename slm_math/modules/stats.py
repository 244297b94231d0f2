"""What a GRPO step measures, and what it has to say about rollouts that teach nothing or the wrong
thing.
"""

from __future__ import annotations

import math
import resource
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops

from slm_math.metrics.records import distinct_rewards, record_metrics, reward_metrics
from slm_math.policy.batches import Batch
from slm_math.records.record import Record, Rollout
from slm_math.types import Trace


class Clock:
    """Seconds per phase of a step; a phase that comes again adds up."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = self.laps.get(name, 0.0) + now - self._last, now


class Sums:
    """Statistics of the tokens of all updates of a step: sums, and maxima and minima of what is
    named so.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            merge = {"max": max, "min": min}.get(
                name.rpartition("_")[2], lambda old, new: old + new
            )
            value = float(value)
            self.values[name] = merge(self.values[name], value) if name in self.values else value

    def means(self, passes: int) -> dict[str, float]:
        """Per token what was summed over the tokens that were computed (see `GRPOModule.batches`),
        losses per pass.
        """
        found = self.values
        tokens = max(found.get("tokens", 0.0), 1.0)
        values = {name: found[name] / passes for name in ("loss", "policy_loss") if name in found}
        names = ("kl", "entropy", "ratio", "clip_low", "clip_high")
        values |= {name: found[name] / tokens for name in names if name in found}
        if "clip_low" in found:
            values["clip_region"] = values["clip_low"] + values["clip_high"]
        if found.get("scored"):  # tokens that the engine gave a log-probability
            scored = found["scored"]
            values |= {
                "logp_diff": found["logp_diff"] / scored,
                "mismatch": found["mismatch"] / scored,
            }
            values["mismatch_corrected"] = found["mismatch_corrected"] / scored
            values["effective_sample_size"] = found["mismatch"] ** 2 / max(
                scored * found["mismatch_squares"], 1e-300
            )
        return values | {name: found[name] for name in found if name.endswith(("_min", "_max"))}


def step_figures(rows: Sequence[Record], group_size: int, roles: Sequence[str]) -> dict[str, float]:
    """Metrics of the rollouts of a step over all ranks: `record_metrics`, `reward_metrics` and
    advantages.
    """
    groups = [rows[start : start + group_size] for start in range(0, len(rows), group_size)]
    values = record_metrics(rows) | reward_metrics(groups, roles)
    for role in roles:
        prefix = f"{role}/" if len(roles) > 1 else ""
        given = [row.advantages[role] for row in rows if role in row.advantages]
        if given:
            values |= {f"{prefix}advantage_min": min(given), f"{prefix}advantage_max": max(given)}
            values[f"{prefix}advantage"] = math.fsum(given) / len(given)
    return values


def sizes(batches: Iterable[Batch]) -> dict[str, float]:
    """Positions of the micro-batches, and how many of them are not padding."""
    return {
        "positions": sum(batch.ids.numel() for batch in batches),
        "filled": sum(batch.attention.sum().item() for batch in batches),
    }


def cost(
    laps: Mapping[str, float],
    rows: Sequence[Record],
    sums: Sums,
    passes: int,
    parameters: int,
    device: torch.device,
    ranks: int,
) -> dict[str, float]:
    """Seconds per phase, tokens per second of all ranks, padding, memory in GiB, and on a known GPU
    the model FLOP utilisation: positions went through forward and backward passes, at 6 FLOP per
    parameter (Kaplan et al. 2020).
    """
    sampled = sum(row.tokens for row in rows)
    positions, filled = sums.values["positions"], sums.values["filled"]
    values = {f"seconds/{name}": seconds for name, seconds in laps.items()}
    values["tokens_per_second/generate"] = sampled / max(laps.get("generate", 0.0), 1e-9)
    values["tokens_per_second/update"] = passes * filled / max(laps.get("update", 0.0), 1e-9)
    values["padding"] = 1 - filled / positions if positions else 0.0
    values["peak_memory_gib"] = peak_memory(device)
    peak = get_available_flops(device, torch.bfloat16) if device.type == "cuda" else None
    if peak:
        values["mfu"] = 6 * parameters * values["tokens_per_second/update"] / peak / ranks
    return values


def peak_memory(device: torch.device) -> float:
    """The most memory in GiB that this process held so far: the GPU's, without one its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


class Notices:
    """Tells people, once each, why a role cannot learn or learns from something else than they
    think.

    Args:
        roles: the roles that learn.
        steps: after so many steps with one and the same reward, it is called constant.
    """

    def __init__(self, roles: Sequence[str], steps: int = 5) -> None:
        self.roles = tuple(roles)
        self.steps = steps
        self._seen = 0
        self._rewards: dict[str, set[float]] = {role: set() for role in roles}
        self._spoke: set[str] = set()
        self._greedy: set[str] = set()

    def step(self, step: int, rows: Sequence[Record], rollouts: Sequence[Rollout]) -> Iterable[str]:
        """What there is to say about a step, a line each: the records of all ranks, and this rank's
        rollouts.
        """
        broken = [row.error for row in rows if row.error is not None]
        if broken:
            yield (
                f"step {step}: {len(broken)} of {len(rows)} workflows broke, the first: {broken[0]}"
            )
        if rows and not any(any(row.advantages.values()) for row in rows):
            rewards = [
                value for row in rows for value in row.rewards.values() if not math.isnan(value)
            ]
            earned = (
                f"mean reward {math.fsum(rewards) / len(rewards):.2f}"
                if rewards
                else "none was scored"
            )
            groups = len({row.id for row in rows})
            yield (
                f"step {step}: all {groups} groups are dead (the samples of a problem earned the "
                f"same, {earned}): "
                "nothing to learn from"
            )
        yield from self._constant(rows)
        self._decoding([rollout.trace for rollout in rollouts])

    def _constant(self, rows: Sequence[Record]) -> Iterable[str]:
        if not rows or self._seen >= self.steps:
            return
        self._seen += 1
        for role in self.roles:
            self._spoke |= {turn.role for row in rows for turn in row.turns}
            self._rewards[role] |= distinct_rewards(rows, role)
            if self._seen == self.steps and len(self._rewards[role]) == 1:
                [value] = self._rewards[role]
                yield (
                    f"warning: every reward of role {role!r} was {value:g} in the first "
                    f"{self.steps} steps: there is "
                    "nothing to learn. Check the rewards, the prompt, and whether replies are cut "
                    "off (train/truncated)"
                )
            if self._seen == self.steps and not self._rewards[role]:
                what = "no reward scored" if role in self._spoke else "nothing was said by"
                yield (
                    f"warning: {what} the trained role {role!r} in the first {self.steps} steps: "
                    f"it cannot learn"
                )

    def _decoding(self, traces: Sequence[Trace]) -> None:
        """Warns when an agent itself asked for greedy replies of a role that learns."""
        for turn in (turn for trace in traces for turn in trace.turns):
            role = turn.request.role
            if role in self.roles and role not in self._greedy and turn.request.temperature == 0:
                self._greedy.add(role)
                warnings.warn(
                    f"the agent asks the trained role {role!r} for greedy replies: these are not "
                    f"learnt",
                    stacklevel=2,
                )
