"""What a GRPO step measures."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from torch import Tensor

from slm_math.metrics.records import record_metrics, reward_metrics
from slm_math.policy.batches import Batch
from slm_math.policy.ranks import gather_over_ranks, rank_count
from slm_math.records.record import Record


class PhaseTimer:
    """Seconds per phase of a step; a phase that comes again adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end(self, phase: str) -> None:
        """Counts the time since the last phase ended as this phase's."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


class StepMetrics:
    """Metrics of the tokens of all updates of a step: sums, and of what is named so, maxima and
    minima.
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self._sums: dict[str, float] = dict(sums or {})
        self._added: list[tuple[str, Any]] = []

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Adds the metrics of a micro-batch, or those of another rank. Tensors stay on their device
        until the sums are read.
        """
        self._added += metrics.items()

    @property
    def sums(self) -> dict[str, float]:
        """What was added up so far."""
        tensors = [value for _, value in self._added if isinstance(value, Tensor)]
        read = iter(torch.stack(tensors).tolist() if tensors else ())
        for name, metric in self._added:
            merge = {"max": max, "min": min}.get(name.rpartition("_")[2], float.__add__)
            value = float(next(read) if isinstance(metric, Tensor) else metric)
            self._sums[name] = merge(self._sums[name], value) if name in self._sums else value
        self._added = []
        return self._sums

    def summed(self) -> StepMetrics:
        """These sums over all ranks."""
        whole = StepMetrics()
        for sums in gather_over_ranks(self.sums):
            whole.add(sums)
        return whole

    def means(self, passes: int) -> dict[str, float]:
        """Means over the tokens that were computed (see `training_batches`), and losses
        per pass.
        """
        sums = self.sums
        tokens = max(sums.get("tokens", 0.0), 1.0)
        means = {name: sums[name] / passes for name in ("loss", "policy_loss") if name in sums}
        names = ("kl", "entropy", "ratio", "clip_low", "clip_high")
        means |= {name: sums[name] / tokens for name in names if name in sums}
        if "clip_low" in sums:
            means["clip_region"] = means["clip_low"] + means["clip_high"]
        if sums.get("scored"):  # tokens that the engine gave a log-probability
            scored = sums["scored"]
            names = ("logp_diff", "mismatch", "mismatch_corrected")
            means |= {name: sums[name] / scored for name in names}
            squares = max(scored * sums["mismatch_squares"], 1e-300)
            means["effective_sample_size"] = sums["mismatch"] ** 2 / squares
        if sums.get("taught"):  # tokens that a teacher scored
            names = ("teacher_kl", "teacher_disagrees", "teacher_divergence")
            means |= {name: sums[name] / sums["taught"] for name in names if name in sums}
        if sums.get("teacher_rows"):
            means["untaught"] = sums["untaught_rows"] / sums["teacher_rows"]
        if sums.get("aged_rows"):
            means["staleness"] = sums["age"] / sums["aged_rows"]
        # infinite where no micro-batch had a token
        extremes = {name: sums[name] for name in sums if name.endswith(("_min", "_max"))}
        return means | {name: value for name, value in extremes.items() if not math.isinf(value)}


def advantage_metrics(records: Sequence[Record], roles: Sequence[str]) -> dict[str, float]:
    """Mean, minimum and maximum of the advantages of records, by role."""
    metrics: dict[str, float] = {}
    for role in roles:
        prefix = f"{role}/" if len(roles) > 1 else ""
        values = [record.advantages[role] for record in records if role in record.advantages]
        if values:
            metrics |= {
                f"{prefix}advantage_min": min(values),
                f"{prefix}advantage_max": max(values),
                f"{prefix}advantage": math.fsum(values) / len(values),
            }
    return metrics


def sampling_metrics(
    records: Sequence[Record], group_size: int, roles: Sequence[str]
) -> dict[str, float]:
    """Metrics of the rollouts of a step: `record_metrics`, `reward_metrics` and advantages."""
    groups = [records[start : start + group_size] for start in range(0, len(records), group_size)]
    metrics = record_metrics(records) | reward_metrics(groups, roles)
    return metrics | advantage_metrics(records, roles)


def step_metrics(
    records: Sequence[Record],
    totals: StepMetrics,
    group_size: int,
    roles: Sequence[str],
    passes: int,
    seconds: Mapping[str, float],
    device: torch.device,
    parameters: int,
) -> dict[str, float]:
    """All metrics of a step of all ranks but those of the optimizer.

    Args:
        records: of all rollouts of the step.
        totals: of all micro-batches, with `batch_sizes`.
        group_size: samples per problem.
        roles: the trained roles.
        passes: how often the batches were trained on.
        seconds: by phase.
        device: that of this rank.
        parameters: of the model.
    """
    sampled = sum(record.tokens for record in records)
    costs = cost_metrics(seconds, sampled, sizes=totals.sums, passes=passes, device=device)
    return (
        sampling_metrics(records, group_size, roles)
        | totals.means(passes)
        | costs
        | utilization(costs["tokens_per_second/update"], parameters, device, rank_count())
    )


def batch_sizes(batches: Iterable[Batch]) -> dict[str, float]:
    """Positions of the micro-batches, and the tokens of their rows."""
    every = list(batches)
    return {
        "positions": sum(batch.positions for batch in every),
        "filled": sum(batch.filled for batch in every),
    }


def cost_metrics(
    seconds: Mapping[str, float],
    sampled: int,
    sizes: Mapping[str, float],
    passes: int,
    device: torch.device,
) -> dict[str, float]:
    """Seconds per phase, tokens per second, padding, the share of the rows' tokens that others had
    computed already, and memory in GiB.

    Args:
        seconds: by phase.
        sampled: tokens sampled by all ranks.
        sizes: `batch_sizes` of all ranks.
        passes: how often the batches were trained on.
        device: that of this rank.
    """
    positions, filled = sizes["positions"], sizes["filled"]
    metrics = {f"seconds/{phase}": value for phase, value in seconds.items()}
    metrics["tokens_per_second/generate"] = sampled / max(seconds.get("generate", 0.0), 1e-9)
    metrics["tokens_per_second/update"] = passes * filled / max(seconds.get("update", 0.0), 1e-9)
    metrics["padding"] = max(1 - filled / positions, 0.0) if positions else 0.0
    metrics["shared"] = max(1 - positions / filled, 0.0) if filled else 0.0
    metrics["peak_memory_gib"] = peak_memory(device)
    return metrics


def utilization(
    tokens_per_second: float, parameters: int, device: torch.device, ranks: int
) -> dict[str, float]:
    """The model FLOP utilization on a known GPU: positions went through forward and backward
    passes, at 6 FLOP per parameter (Kaplan et al. 2020). {} elsewhere.
    """
    peak = get_available_flops(device, torch.bfloat16) if device.type == "cuda" else None
    return {"mfu": 6 * parameters * tokens_per_second / peak / ranks} if peak else {}


def peak_memory(device: torch.device) -> float:
    """The most memory in GiB that this process held so far: the GPU's, without one its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
