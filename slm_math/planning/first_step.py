"""The part of a plan that costs a few milliseconds, which `fit` prints beside its first step:
tokens, and memory by closed formulas. An update is not rehearsed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from slm_math.modules.base import PolicyModule
from slm_math.modules.rollouts import RolloutModule
from slm_math.planning.devices import machine_memory
from slm_math.planning.memory import cache_bytes, logits_bytes, muon_bytes, running
from slm_math.planning.network import Sizes, captures
from slm_math.planning.of_run import seen_rows, setup_of
from slm_math.planning.predict import Setup, resident_of
from slm_math.planning.workload import Decoded, prompt_of
from slm_math.policy.ranks import rank_count

LOOKED_AT = 64  # rows whose lengths are looked at
ASKED = 8  # problems whose prompts are looked at


@dataclass(frozen=True)
class FirstStep:
    """What is foreseen of a step.

    Args:
        tokens: of its rows in the mean, or, where it samples, the most that it can sample in one
            turn, of all ranks.
        samples: whether it samples.
        bytes: the memory of a rank without the activations of forward and backward passes.
    """

    tokens: float
    samples: bool
    bytes: int

    def lines(self, tokens: float, peak: int) -> list[str]:
        """What was foreseen beside what was measured, in tokens and bytes."""
        what, planned = "tokens", f"{self.tokens:,.0f}"
        if self.samples:
            what, planned = "sampled tokens", f"at most {planned} in one turn"
        return [
            f"  {what}: planned {planned} -> {tokens:,.0f}",
            f"  memory: planned {self.bytes >> 20:,} MiB and activations -> {peak >> 20:,} MiB",
        ]


def foresee(module: PolicyModule, data: Any, idle: int, sliced: bool = False) -> FirstStep:
    """The plan of a step of a model that is loaded.

    Args:
        module: what learns.
        data: its data module, which was read.
        idle: bytes of the process before the model was loaded; 0 where memory is that of a GPU, of
            which torch counts tensors only.
        sliced: whether ranks share the weights.
    """
    assert module.loaded is not None
    ranks = rank_count()
    setup = setup_of(module, str(module.trainer.precision), ranks, sliced)
    sizes = Sizes.of(module.loaded)
    resident = resident_of(setup, sizes, again=False)
    base = idle + resident.networks
    turned = muon_bytes(sizes) if setup.optimizer == "muon" else 0
    most = base + resident.moments + resident.gradients + turned
    size = max(data.batch_size // ranks, 1)
    if not isinstance(module, RolloutModule):
        return FirstStep(ranks * _row_tokens(module, data, size), False, most)
    decoded = _decoded(module, data, size)
    if module.serving.kind == "transformers":
        copy = base + setup.sharing.decoding(sizes, setup.rounded)
        most = max(most, *(copy + _decoding(setup, module, sizes, one) for one in decoded))
    tokens = sum(one.requests * one.sampling.max_new_tokens for one in decoded)
    return FirstStep(ranks * tokens, True, most)


def _row_tokens(module: PolicyModule, data: Any, size: int) -> float:
    rows = seen_rows(module, data.rows["train"])
    count = min(len(rows), LOOKED_AT)
    places = random.Random(0).sample(range(len(rows)), count)
    return min(size, len(rows)) * sum(len(rows[n].ids) for n in places) / count


def _decoded(module: RolloutModule, data: Any, size: int) -> list[Decoded]:
    """What each trained role samples, in one turn."""
    made = []
    tasks = list(data.tasks[:ASKED])
    for role in module.train_roles:
        lengths = [len(prompt_of(module, module.agent, task, role)) for task in tasks]
        prompts = tuple(lengths[n % len(lengths)] for n in range(min(size, len(data.tasks))))
        sampling = module.inference.sampling_of(role)
        made.append(Decoded(prompts, module.group_size, sampling, module.inference.slots))
    return made


def _decoding(setup: Setup, module: RolloutModule, sizes: Sizes, decoded: Decoded) -> int:
    """Bytes of keys and values, and of the choice of a token."""
    device = module.device
    on_gpu = device.type == "cuda"
    memory = torch.cuda.get_device_properties(device).total_memory if on_gpu else machine_memory()
    room = setup.room(sizes, memory)
    rows = running(decoded, *room[:2])
    captured = on_gpu and captures(module.loaded.model)  # type: ignore[union-attr]
    return cache_bytes(decoded, *room, captured=captured) + logits_bytes(
        rows, sizes.vocabulary, {decoded.sampling.temperature: None}
    )
