"""Starts and stops vLLM's engine in this process without side effects on the training run."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import distributed

from slm_math.engines import vllm_setup

_running: list[Any] = []


def options(model: str, dtype: str, slots: int, context: int) -> dict[str, Any]:
    """Arguments of vLLM's engine on any device."""
    return {
        "model": model,
        "tokenizer": model,
        "dtype": dtype,
        "max_model_len": context,
        "max_num_seqs": slots,
        "logprobs_mode": "processed_logprobs",  # after temperature and truncation
        "generation_config": "vllm",  # the request alone decides how to sample
        "disable_log_stats": True,
        "async_scheduling": False,  # a step is complete when `step` returns
        "use_tqdm_on_load": False,
        "seed": 0,
    }


def gpu_options(memory: float | None) -> dict[str, Any]:
    """Arguments on a GPU of which vLLM gets the share `memory` (by default 0.9)."""
    return {"gpu_memory_utilization": memory or 0.9}


def lora_options(ranks: Iterable[int]) -> dict[str, Any]:
    """Arguments for adapters of these ranks, which are served at once."""
    ranks = list(ranks)
    return {
        "enable_lora": True,
        "max_loras": len(ranks),
        "max_lora_rank": vllm_setup.lora_rank(max(ranks)),
    }


def cpu_options(config: Any, slots: int, context: int, bytes_per_number: int) -> dict[str, Any]:
    """Arguments on a CPU, where the cache takes at most a quarter of the memory if possible."""
    desired = vllm_setup.cache_bytes(
        config, slots, tokens=2048, context=context, bytes_per_number=bytes_per_number
    )
    least = vllm_setup.cache_bytes(
        config, slots=1, tokens=context, context=context, bytes_per_number=bytes_per_number
    )
    return {
        "enforce_eager": True,  # compilation takes 40 s and does not speed up small models
        "kv_cache_memory_bytes": max(min(desired, vllm_setup.memory() // 4), 2 * least, 2**26),
        # chunked prefill breaks seeded requests on a CPU, so a prompt has to fit into one step
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context, 8192),
    }


def start(arguments: Mapping[str, Any], receives_weights: bool) -> Any:
    """Starts vLLM's engine; `receives_weights`: whether its weights will be updated.

    Where several processes train, all of them must start one at the same time, since vLLM makes its
    groups of processes within theirs.
    """
    ranks = _ranks()
    with _state_restored(), _launched(ranks):
        vllm_setup.import_vllm()
        from vllm import EngineArgs  # type: ignore[attr-defined]
        from vllm.config import WeightTransferConfig
        from vllm.v1.engine.llm_engine import LLMEngine

        transfer: dict[str, Any] = {}
        if receives_weights:
            transfer["weight_transfer_config"] = WeightTransferConfig(
                backend=vllm_setup.WEIGHTS_BACKEND
            )
            transfer["worker_extension_cls"] = "slm_math.engines.vllm_worker.Extension"
        if ranks > 1:  # each has an engine of its own, on its own device
            transfer["distributed_executor_backend"] = "external_launcher"
        core = LLMEngine.from_engine_args(EngineArgs(**arguments, **transfer))
    _running.append(core)
    return core


def stop(core: Any) -> None:
    """Ends an engine.

    vLLM would destroy the process-wide state at every shutdown, also if other engines still use it,
    so only the last one may; the group of the ranks that train is theirs.
    """
    _running.remove(core)
    if _running:
        with patch("vllm.v1.engine.core.cleanup_dist_env_and_memory"):
            core.engine_core.shutdown()
    else:
        with _group_preserved() if _ranks() > 1 else nullcontext():
            core.engine_core.shutdown()


def _ranks() -> int:
    """The number of processes that train together."""
    found = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if found else 1


@contextmanager
def _launched(ranks: int) -> Iterator[None]:
    """The environment in which vLLM looks for its rank, which not every launcher sets, and for its
    device.
    """
    if ranks == 1:
        yield
        return
    device = torch.cuda.current_device() if torch.cuda.is_available() else 0
    place = {"RANK": str(distributed.get_rank()), "LOCAL_RANK": str(device)}
    with patch.dict(os.environ, place):
        yield


@contextmanager
def _group_preserved() -> Iterator[None]:
    """Lets vLLM destroy its own process groups, but not the one that all ranks share."""
    destroy = distributed.destroy_process_group

    def destroy_own(group: Any = None) -> None:
        if group is not None:
            destroy(group)

    with patch.object(distributed, "destroy_process_group", destroy_own):
        yield


@contextmanager
def _state_restored() -> Iterator[None]:
    """Restores the random generators and thread counts of this process, which vLLM changes when it
    starts.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    threads = torch.get_num_threads(), torch.set_num_threads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = threads[1]
        torch.set_num_threads(threads[0])
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
