"""What a GRPO step measures, and what it has to say about rollouts that teach nothing or the wrong thing."""

from __future__ import annotations

import math
import resource
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops

from slm_math.rollout.figures import figures
from slm_math.rollout.record import Rollout
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
    """Statistics of the tokens of all updates of a step: sums, and maxima and minima of what is named so."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            merge = {"max": max, "min": min}.get(name.rpartition("_")[2], lambda old, new: old + new)
            value = float(value)
            self.values[name] = merge(self.values[name], value) if name in self.values else value

    def means(self, passes: int) -> dict[str, float]:
        """Per token what was summed over tokens; the losses, which are weighted already, per pass."""
        found = self.values
        tokens = max(found.get("tokens", 0.0), 1.0)
        values = {name: found[name] / passes for name in ("loss", "policy_loss") if name in found}
        names = ("kl", "entropy", "ratio", "clip_low", "clip_high")
        values |= {name: found[name] / tokens for name in names if name in found}
        if "clip_low" in found:
            values["clip_region"] = values["clip_low"] + values["clip_high"]
        if found.get("scored"):  # tokens that the engine gave a log-probability
            scored = found["scored"]
            values |= {"logp_diff": found["logp_diff"] / scored, "mismatch": found["mismatch"] / scored}
            values["mismatch_corrected"] = found["mismatch_corrected"] / scored
            values["effective_sample_size"] = found["mismatch"] ** 2 / max(scored * found["mismatch_squares"], 1e-300)
        return values | {name: found[name] for name in found if name.endswith(("_min", "_max"))}


def step_figures(rows: Sequence[Mapping[str, Any]], group_size: int, roles: Sequence[str]) -> dict[str, float]:
    """Figures of the rollouts of a step over all ranks: `figures`, rewards, groups and advantages.

    Rewards of several roles are named after their role. `frac_reward_zero_std` is the share of groups whose rewards
    are all equal: nothing can be learnt from them; of these `/all_right` and `/all_wrong` say why.
    """
    values = figures(rows)
    for role in roles:
        prefix = f"{role}/" if len(roles) > 1 else ""
        columns = {"reward": [row["rewards"][role] for row in rows]}
        columns |= {f"reward/{part}": [row["parts"][role][part] for row in rows] for part in _parts(rows, role)}
        for name, column in columns.items():
            scored = [value for value in column if not math.isnan(value)]
            if scored:
                values |= {prefix + name: _mean(scored), prefix + name.replace("reward", "reward_std", 1): _std(scored)}
        values[f"{prefix}unscored"] = sum(math.isnan(value) for value in columns["reward"]) / max(len(rows), 1)
        groups = [rows[start : start + group_size] for start in range(0, len(rows), group_size)]
        dead = [group for group in groups if len(_distinct(group, role)) < 2]
        name = f"{prefix}frac_reward_zero_std"
        values[name] = len(dead) / max(len(groups), 1)
        for why, is_it in (("all_right", all), ("all_wrong", lambda marks: not any(marks))):
            same = sum(is_it([row["correct"] for row in group]) for group in dead)
            values[f"{name}/{why}"] = same / max(len(groups), 1)
        given = [row["advantages"][role] for row in rows if role in row["advantages"]]
        if given:
            values |= {f"{prefix}advantage_min": min(given), f"{prefix}advantage_max": max(given)}
            values[f"{prefix}advantage"] = _mean(given)
    return values


def _parts(rows: Sequence[Mapping[str, Any]], role: str) -> list[str]:
    return list(rows[0]["parts"][role]) if rows else []


def _distinct(group: Sequence[Mapping[str, Any]], role: str) -> set[float]:
    return {row["rewards"][role] for row in group if not math.isnan(row["rewards"][role])}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _std(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1))


def cost(
    laps: Mapping[str, float], sampled: float, trained: float, parameters: int, device: torch.device
) -> dict[str, float]:
    """Seconds per phase, tokens per second, memory in GiB, and on a known GPU the model FLOP utilisation.

    `sampled` tokens were generated, `trained` positions went through forward and backward passes, which take 6 FLOP per
    parameter and position (Kaplan et al. 2020).
    """
    values = {f"seconds/{name}": seconds for name, seconds in laps.items()}
    values["tokens_per_second/generate"] = sampled / max(laps.get("generate", 0.0), 1e-9)
    values["tokens_per_second/update"] = trained / max(laps.get("update", 0.0), 1e-9)
    if device.type == "cuda":
        values["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        peak = get_available_flops(device, torch.bfloat16)
        if peak:
            values["mfu"] = 6 * parameters * values["tokens_per_second/update"] / peak
    else:
        values["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return values


class Notices:
    """Tells people, once each, why a role cannot learn or learns from something else than they think.

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

    def step(self, step: int, rollouts: Sequence[Rollout]) -> Iterable[str]:
        """What there is to say about the rollouts of a step, a line each."""
        broken = [rollout.trace.error for rollout in rollouts if rollout.trace.error is not None]
        if broken:
            yield f"step {step}: {len(broken)} of {len(rollouts)} workflows broke, the first: {broken[0]}"
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for rollout in rollouts:
            groups[rollout.task.problem.id].append({"rewards": rollout.rewards})
        alive = any(len(_distinct(group, role)) > 1 for group in groups.values() for role in self.roles)
        if rollouts and not alive:
            rewards = [value for r in rollouts for value in r.rewards.values() if not math.isnan(value)]
            earned = f"mean reward {_mean(rewards):.2f}" if rewards else "none was scored"
            yield (
                f"step {step}: all {len(groups)} groups are dead (the samples of a problem earned the same, {earned}): "
                "nothing to learn from"
            )
        yield from self._constant(rollouts)
        self._decoding([rollout.trace for rollout in rollouts])

    def _constant(self, rollouts: Sequence[Rollout]) -> Iterable[str]:
        if len(rollouts) == 0 or self._seen >= self.steps:
            return
        self._seen += 1
        for role in self.roles:
            self._spoke |= {turn.request.role for rollout in rollouts for turn in rollout.trace.turns}
            self._rewards[role] |= {r.rewards[role] for r in rollouts if not math.isnan(r.rewards[role])}
            if self._seen == self.steps and len(self._rewards[role]) == 1:
                [value] = self._rewards[role]
                yield (
                    f"warning: every reward of role {role!r} was {value:g} in the first {self.steps} steps: there is "
                    "nothing to learn. Check the rewards, the prompt, and whether replies are cut off (train/truncated)"
                )
            if self._seen == self.steps and not self._rewards[role]:
                what = "no reward scored" if role in self._spoke else "nothing was said by"
                yield f"warning: {what} the trained role {role!r} in the first {self.steps} steps: it cannot learn"

    def _decoding(self, traces: Sequence[Trace]) -> None:
        """Warns when an agent itself asked for greedy replies of a role that learns."""
        for turn in (turn for trace in traces for turn in trace.turns):
            role = turn.request.role
            if role in self.roles and role not in self._greedy and turn.request.temperature == 0:
                self._greedy.add(role)
                warnings.warn(
                    f"the agent asks the trained role {role!r} for greedy replies: these are not learnt", stacklevel=2
                )
