"""vLLM before it is imported: which versions are known to work, how its process is set up, how much
memory it needs.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

# its weight-transfer and sampling interfaces move from one version to the next
TESTED = SpecifierSet(">=0.32,<0.33")
# the name of slm_math.engines.vllm_worker's weight transfer in vLLM's registry
WEIGHTS_BACKEND = "slm_math"
OVERHEAD = 2 * 2**30  # bytes for activations, captured graphs and the CUDA context


def installed() -> str | None:
    """The version of vLLM (of its CPU build, too) that is installed; it is not imported."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def refusal(found: str | None = None) -> str | None:
    """Why vLLM cannot be used: not installed, or not a version that was tested;
    None when it can.
    """
    found = installed() if found is None else found
    if found is None:
        return (
            'vLLM is not installed: pip install "slm-math[vllm]", or scripts/install_vllm_cpu.sh '
            "without a GPU"
        )
    try:
        tested = TESTED.contains(Version(found).public, prereleases=True)
    except InvalidVersion:
        tested = False
    if not tested:
        return (
            f"vLLM {found} was not tested with this version of slm-math, vllm{TESTED} was: install "
            f"that"
        )
    return None


def import_vllm() -> Any:
    """The module `vllm`, set up to run inside of this process. Raises ValueError where it cannot be
    used.
    """
    reason = refusal()
    if reason is not None:
        raise ValueError(reason)
    # weights are handed over in memory, breakpoints work
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # a progress bar is on the screen
    return import_module("vllm")


def kv_bytes(config: Any, bytes_per_number: int) -> int:
    """Bytes of keys and values of one token: 2 x layers x key-value heads x head size x bytes of a
    number.
    """
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * bytes_per_number


def cache_bytes(config: Any, slots: int, tokens: int, context: int, bytes_per_number: int) -> int:
    """Bytes of a key-value cache for `slots` chats of `tokens` tokens each, and for one that fills
    the context.
    """
    return max(slots * min(tokens, context), context) * kv_bytes(config, bytes_per_number)


def share(
    parameters: int, cache: int, total: int, bytes_per_number: int, trainer: int = 0, least: int = 0
) -> float:
    """The share of a GPU of `total` bytes that vLLM needs for a model of `parameters` weights and
    its cache.

    `trainer`: bytes that training keeps on the same GPU while vLLM decodes. A cache that does not
    fit whole is cut down, and vLLM queues what has no room: to a quarter, or `least`, what one chat
    may need. Raises ValueError when that does not fit.
    """
    least = max(cache // 4, least)
    weights = parameters * bytes_per_number + OVERHEAD
    free = 0.95 * total - trainer - weights
    if free < least:
        need = (trainer + weights + least) / 2**30
        raise ValueError(
            f"training and vLLM need at least {need:.1f} GiB of the GPU's {total / 2**30:.1f} "
            f"(weights, optimiser, "
            f"{least / 2**30:.1f} of keys and values): lower slots, max_new_tokens or "
            f"vllm.context, train adapters "
            "(policy.lora), set vllm.memory by hand, or let `vllm serve` have a GPU of its own "
            "(vllm.servers)"
        )
    return round((weights + min(cache, free)) / total, 3)


def memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def lora_rank(rank: int) -> int:
    """vLLM's bound for the rank of adapters: it takes certain numbers only."""
    bounds = (8, 16, 32, 64, 128, 256, 320, 512)
    if rank > bounds[-1]:
        raise ValueError(
            f"vLLM takes adapters of rank {bounds[-1]} at most, policy.lora has {rank}"
        )
    return next(bound for bound in bounds if bound >= rank)
