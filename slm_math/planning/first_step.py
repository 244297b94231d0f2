"""The plan of a run under way, which `fit` prints beside its first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from slm_math.modules.base import PolicyModule
from slm_math.modules.rollouts import RolloutModule
from slm_math.planning.devices import CONTEXT, device_named, here
from slm_math.planning.network import Sizes
from slm_math.planning.of_run import setup_of, workload_of
from slm_math.planning.predict import predict
from slm_math.policy.ranks import rank_count


@dataclass(frozen=True)
class FirstStep:
    """What is foreseen of a step.

    Args:
        seconds: of the mean step.
        tokens: of its rows in the mean, or, where it samples, the most that it can sample in one
            turn, of all ranks.
        samples: whether it samples.
        bytes: the most memory of a rank up to the end of the step.
    """

    seconds: float
    tokens: float
    samples: bool
    bytes: int

    def lines(self, seconds: float, tokens: float, peak: int) -> list[str]:
        """What was measured beside what was foreseen, in seconds, tokens and bytes."""
        what, planned = "tokens", f"{self.tokens:,.0f}"
        if self.samples:
            what, planned = "sampled tokens", f"at most {planned} in one turn"
        return [
            f"first step: {seconds:.3g} s (planned about {self.seconds:.2g} s)",
            f"  {what}: {tokens:,.0f} (planned {planned})",
            f"  peak memory: {peak >> 20:,} MiB (planned {self.bytes >> 20:,} MiB)",
        ]


def foresee(module: PolicyModule, data: Any, idle: int, sliced: bool = False) -> FirstStep:
    """The plan of a step of a model that is loaded. What is drawn at random afterwards is the same
    with and without it.

    Args:
        module: what learns.
        data: its data module, which was read.
        idle: bytes of the process before the model was loaded.
        sliced: whether ranks share the weights.
    """
    assert module.loaded is not None
    ranks = rank_count()
    with torch.random.fork_rng(devices=[]):
        device = device_named(here() if module.device.type == "cuda" else "cpu")
        setup = setup_of(module, str(module.trainer.precision), ranks, sliced)
        workload = workload_of(module, data, (), ranks)
        plan = predict(setup, workload, device, idle, sizes=Sizes.of(module.loaded))
    tokens = workload.tokens
    if samples := isinstance(module, RolloutModule):
        sampled = workload.largest.sampled
        tokens = sum(each.requests * each.sampling.max_new_tokens for each in sampled)
    unseen = CONTEXT if device.is_gpu else 0  # torch counts tensors only
    return FirstStep(plan.seconds, ranks * tokens, samples, plan.peak - unseen)
