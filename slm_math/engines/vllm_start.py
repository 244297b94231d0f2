"""Starts and stops vLLM's engine inside of this process, and leaves alone what else runs here."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from slm_math.engines import vllm_setup

_running: list[Any] = []


def options(model: str, dtype: str, slots: int, context: int) -> dict[str, Any]:
    """Arguments of vLLM's engine, on any device."""
    return {
        "model": model,
        "tokenizer": model,
        "dtype": dtype,
        "max_model_len": context,
        "max_num_seqs": slots,
        "logprobs_mode": "processed_logprobs",  # of what was sampled from: after the temperature
        "generation_config": "vllm",  # nothing but the request decides how to sample
        "disable_log_stats": True,
        "async_scheduling": False,  # a step is over when `step` returns
        "use_tqdm_on_load": False,
        "seed": 0,
    }


def gpu_options(memory: float | None) -> dict[str, Any]:
    return {"gpu_memory_utilization": memory or 0.9}


def cpu_options(config: Any, slots: int, context: int, bytes_per_number: int) -> dict[str, Any]:
    wanted = vllm_setup.cache_bytes(config, slots, 2048, context, bytes_per_number)
    least = vllm_setup.cache_bytes(config, 1, context, context, bytes_per_number)
    return {
        "enforce_eager": True,  # compiling costs 40 s, and gains nothing on small models
        "kv_cache_memory_bytes": max(min(wanted, vllm_setup.memory() // 4), 2 * least, 2**26),
        # a prompt in pieces breaks seeded requests on a CPU: it has to fit into one step
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context, 8192),
    }


def start(arguments: Mapping[str, Any], receives_weights: bool) -> Any:
    """vLLM's engine; with `receives_weights`, one that takes new weights."""
    with _undisturbed():
        vllm_setup.imported()
        from vllm import EngineArgs
        from vllm.config import WeightTransferConfig
        from vllm.v1.engine.llm_engine import LLMEngine

        more: dict[str, Any] = {}
        if receives_weights:
            more["weight_transfer_config"] = WeightTransferConfig(
                backend=vllm_setup.WEIGHTS_BACKEND
            )
            more["worker_extension_cls"] = "slm_math.engines.vllm_worker.Extension"
        core = LLMEngine.from_engine_args(EngineArgs(**arguments, **more))
    _running.append(core)
    return core


def stop(core: Any) -> None:
    """Ends an engine. The last one takes what all of a process share with it; vLLM
    would at each.
    """
    _running.remove(core)
    if _running:
        with patch("vllm.v1.engine.core.cleanup_dist_env_and_memory"):
            core.engine_core.shutdown()
    else:
        core.engine_core.shutdown()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """vLLM seeds every generator of this process when it starts, and a training run has its own."""
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
