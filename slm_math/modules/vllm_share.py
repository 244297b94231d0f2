"""The share of a GPU that vLLM needs beside training."""

from __future__ import annotations

from typing import Any

import torch

from slm_math.engines import vllm_setup
from slm_math.engines.settings import Inference
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.weights import training_bytes


def share_of_gpu(
    loaded: LoadedPolicy,
    base: Any,
    inference: Inference,
    slots: int,
    bytes_per_number: int,
    optimizers: list[Any],
    trains: bool,
) -> float:
    """The share of the policy's GPU, after what training reserves: weights, gradients, two moments
    of Adam.

    Args:
        loaded: the policy.
        base: its transformers model.
        inference: how it samples.
        slots: requests at once.
        bytes_per_number: of vLLM's weights and cache.
        optimizers: of the trainer.
        trains: whether training reserves what it needs.
    """
    device = loaded.model.device
    total = torch.cuda.get_device_properties(device).total_memory
    reserved = torch.cuda.memory_allocated(device)
    reserved -= training_bytes(loaded.parameters(), optimizers)
    if trains:
        reserved += 3 * 4 * sum(p.numel() for p in loaded.parameters())
    own = base.config.get_text_config().max_position_embeddings
    context = min(inference.vllm.context or own, own)
    longest = max(each.max_new_tokens for each in inference.by_role().values()) + 1024
    cache = vllm_setup.cache_bytes(
        base.config, slots, tokens=longest, context=context, bytes_per_number=bytes_per_number
    )
    least = vllm_setup.cache_bytes(
        base.config, 1, tokens=context, context=context, bytes_per_number=bytes_per_number
    )
    return vllm_setup.share(
        sum(p.numel() for p in base.parameters()),
        cache,
        total,
        bytes_per_number,
        trainer=reserved,
        least=least,
    )
