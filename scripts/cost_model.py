#!/usr/bin/env python3
"""What a step of SFT and of GRPO takes on 1, 8 and 64 GPUs, from first principles.

    python scripts/cost_model.py [--device h100] [--markdown]

Nothing is measured. Each phase takes the longer of its operations by the peak of the card and its
bytes by the card's bandwidth or the network's; ASSUMED has the share of these peaks that is
reached. `python scripts/bench_gpu.py` measures these shares where there is a GPU.
"""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass
from math import ceil

from slm_math.planning.devices import GPUS

# shares of the peaks: training (MFU), reading prompts, decoding (of the bandwidth), networks
ASSUMED = {"update": 0.40, "prefill": 0.50, "decode": 0.60, "network": 0.70}
NVLINK, FABRIC = 450e9, 50e9  # bytes per second of a GPU in each direction: NVLink 4, 400 Gbit/s
NODE = 8  # GPUs


@dataclass(frozen=True)
class Model:
    """`weights` of layers and head; `cache`: bytes of keys and values per token, in bfloat16."""

    name: str
    weights: float
    layers: int
    hidden: int
    cache: int


# Qwen2.5: 2 (keys, values) x layers x heads of keys and values x width of a head x 2 bytes
MODELS = (
    Model("0.5B", 0.494e9, 24, 896, 2 * 24 * 2 * 64 * 2),
    Model("1.5B", 1.544e9, 28, 1536, 2 * 28 * 2 * 128 * 2),
    Model("3B", 3.086e9, 36, 2048, 2 * 36 * 2 * 128 * 2),
)
COUNTS = (1, 8, 64)

ROWS, ROW = 64, 1024  # SFT: rows of a batch, tokens of each
PROMPTS, GROUP, PROMPT, REPLY, LONGEST = 64, 16, 256, 768, 3072  # GRPO; tokens of the mean reply


@dataclass(frozen=True)
class Cluster:
    """`gpus` cards of one kind, eight to a node."""

    device: str
    gpus: int

    @property
    def flops(self) -> float:
        return GPUS[self.device][2] * 1e12

    @property
    def bandwidth(self) -> float:
        return GPUS[self.device][1] * 1e12

    def all_reduce(self, size: float) -> float:
        """Seconds to sum up: in each node by a ring, in which each of m cards sends 2 (m - 1) / m
        of the bytes; between k nodes each card adds up its m-th part, sending 2 (k - 1) / k of it.
        """
        inside, nodes = min(self.gpus, NODE), ceil(self.gpus / NODE)
        near = 2 * (inside - 1) / inside * size / NVLINK
        far = 2 * (nodes - 1) / nodes * size / inside / FABRIC
        return (near + far) / ASSUMED["network"]

    def broadcast(self, size: float) -> float:
        """Seconds in which all cards get the bytes that one of them has, in a pipeline: a node gets
        each part by another card.
        """
        if self.gpus == 1:
            return 0.0
        far = size / min(self.gpus, NODE) / FABRIC if self.gpus > NODE else 0.0
        return (size / NVLINK + far) / ASSUMED["network"]


def trained(model: Model, tokens: float, context: float) -> float:
    """Operations of forward and backward: 6 for each token and weight, and causal attention."""
    return 6 * tokens * (model.weights + model.layers * model.hidden * context)


def sft(model: Model, cluster: Cluster) -> dict[str, float]:
    """Seconds of the phases of a step."""
    tokens = ROWS * ROW
    busy = min(cluster.gpus, ROWS)
    compute = trained(model, tokens / busy, ROW) / (cluster.flops * ASSUMED["update"])
    # gradients, moments and weights are read and written once: 28 bytes a weight
    adam = 28 * model.weights / (ASSUMED["decode"] * cluster.bandwidth)
    return {"update": compute, "gradients": cluster.all_reduce(4 * model.weights), "AdamW": adam}


def grpo(model: Model, cluster: Cluster, rollouts: Cluster | None = None) -> dict[str, float]:
    """Seconds of the phases of a step: all cards sample, and then all train; or, with `rollouts`,
    these sample on their own.
    """
    sampler = rollouts or cluster
    replies = PROMPTS * GROUP
    each = ceil(replies / sampler.gpus)
    prefill = 2 * model.weights * PROMPTS * PROMPT / sampler.gpus
    # the longest reply decides how often the weights are read; all others end before it
    weights = LONGEST * 2 * model.weights
    remembered = each * REPLY * (PROMPT + REPLY / 2) * model.cache
    memory = (weights + remembered) / (ASSUMED["decode"] * sampler.bandwidth)
    arithmetic = 2 * model.weights * each * REPLY / (ASSUMED["prefill"] * sampler.flops)
    tokens = (PROMPTS * PROMPT + replies * REPLY) / cluster.gpus  # a group's prompt is read once
    context = PROMPT + REPLY
    speed = cluster.flops * ASSUMED["update"]
    step = trained(model, tokens, context)
    seconds = {
        "sampling": prefill / (ASSUMED["prefill"] * sampler.flops) + max(memory, arithmetic),
        "reference": step / 3 / (cluster.flops * ASSUMED["prefill"]),
        "update": step / speed,
        "gradients": cluster.all_reduce(4 * model.weights),
        "AdamW": 28 * model.weights / (ASSUMED["decode"] * cluster.bandwidth),
    }
    both = Cluster(cluster.device, cluster.gpus + sampler.gpus) if rollouts else cluster
    seconds["weights"] = both.broadcast(2 * model.weights) if rollouts else 0.0
    return seconds


def memory_of(model: Model, gpus: int) -> tuple[float, float, float]:
    """GB of weights, gradients and AdamW on a card: all of it, sharded optimizer, all in parts.

    16 bytes a weight: fp32 weights, gradients and two moments (DDP); bfloat16 copies come on top.
    """
    whole, moments = 16 * model.weights, 8 * model.weights
    return whole / 1e9, (whole - moments + moments / gpus) / 1e9, whole / gpus / 1e9


def table(head: list[str], rows: list[list[str]], markdown: bool) -> str:
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (head, *rows)
    )


def time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"


def sft_rows(device: str) -> list[list[str]]:
    rows = []
    for model in MODELS:
        for gpus in COUNTS:
            phases = sft(model, Cluster(device, gpus))
            total = sum(phases.values())
            binds = max(phases, key=phases.__getitem__)
            rate = f"{ROWS * ROW / total / gpus / 1e3:.1f}k"
            times = map(time, (*phases.values(), total))
            rows.append([model.name, str(gpus), *times, rate, binds])
    return rows


def grpo_rows(device: str) -> list[list[str]]:
    rows = []
    for model in MODELS:
        for gpus in COUNTS:
            phases = grpo(model, Cluster(device, gpus))
            total = sum(phases.values())
            binds = max(phases, key=phases.__getitem__)
            ahead = split(model, device, gpus)
            shown = [time(phases[name]) for name in ("sampling", "reference", "update")]
            shared = phases["gradients"] + phases["AdamW"]
            rows.append(
                [model.name, str(gpus), *shown, time(shared), time(total), binds]
                + ([f"{ahead[0]} + {ahead[1]}", time(ahead[2])] if ahead else ["", ""])
            )
    return rows


def split(model: Model, device: str, gpus: int) -> tuple[int, int, float] | None:
    """The best (servers, trainers, seconds) where sampling is one step ahead of training."""
    best = None
    for servers in range(1, gpus):
        phases = grpo(model, Cluster(device, gpus - servers), Cluster(device, servers))
        learning = sum(phases.values()) - phases["sampling"] - phases["weights"]
        seconds = max(phases["sampling"], learning) + phases["weights"]
        if best is None or seconds < best[2]:
            best = servers, gpus - servers, seconds
    return best


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=sorted(GPUS), default="h100")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    head = ["model", "GPUs", "update", "gradients", "AdamW", "step", "tokens/s a GPU", "binds"]
    print(f"SFT, {ROWS} rows of {ROW:,} tokens a step, {options.device}\n")
    print(table(head, sft_rows(options.device), options.markdown))
    print(
        f"\nGRPO, {PROMPTS} problems x {GROUP}, prompts of {PROMPT}, replies of {REPLY} "
        f"(the longest {LONGEST:,}), {options.device}\n"
    )
    head = ["model", "GPUs", "sampling", "reference", "update", "gradients, AdamW", "step", "binds"]
    head += ["servers + trainers, ahead", "step"]
    print(table(head, grpo_rows(options.device), options.markdown))
    print("\nGB on a card: weights, gradients, AdamW\n")
    head = ["model", "GPUs", "DDP", "sharded optimizer", "FSDP2"]
    rows = [
        [model.name, str(gpus), *(f"{size:.1f}" for size in memory_of(model, gpus))]
        for model in MODELS
        for gpus in COUNTS
    ]
    print(table(head, rows, options.markdown))


if __name__ == "__main__":
    main()
