"""The one place that runs the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def inner(model: Any) -> Any:
    """The model itself, without peft around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def head_of(base: Any) -> Any:
    """hidden (m, H) -> logits (m, V), with the scaling or capping that some architectures put
    behind the head.
    """
    head = base.get_output_embeddings()
    config = base.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)  # Cohere multiplies
    divisor = getattr(config, "logits_scaling", None)  # Granite divides

    def logits(hidden: Tensor) -> Tensor:
        out = head(hidden)
        if scale is not None:
            out = out * scale
        if divisor is not None:
            out = out / divisor
        return out if cap is None else torch.tanh(out / cap) * cap

    return logits
