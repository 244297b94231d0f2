"""An exported model in vLLM, where it is installed, against its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from slm_math.engines import vllm_setup
from slm_math.exports import plain_vllm
from slm_math.exports.agreement import compare, tolerance_of
from slm_math.exports.certificate import Certificate, fresh, request_of
from slm_math.policy.adapter_files import adapter_config, check_vllm_applies


def served(folder: Path, certificate: Certificate) -> str | None:
    """What vLLM makes of an export, in a line; None where vLLM is not installed, or for a model
    with eyes. vLLM computes in bfloat16 on a GPU, and in float32 on a CPU.

    Raises ValueError if it differs from the policy by more than it may.
    """
    if vllm_setup.refusal() is not None or certificate["eyes"]:
        return None
    for name in certificate["parts"]:
        try:
            check_vllm_applies(adapter_config(str(folder / name)) or {})
        except ValueError as error:
            return f"not compared: {error}"
    found = fresh(request_of(folder, certificate), Path.cwd(), plain_vllm)
    kind = "bfloat16" if torch.cuda.is_available() else certificate["dtype"]
    limit = tolerance_of(kind, on_cpu=False)  # its kernels are others than those of transformers
    largest, tokens = 0.0, 0
    for (name, part), answers in zip(certificate["parts"].items(), found["parts"], strict=True):
        agreed: Any = compare(part["cases"], answers, limit)
        if agreed.problems:
            where = f"{folder}/{name}" if name else str(folder)
            raise ValueError(f"vLLM does not serve {where} as it was trained: {agreed.problems[0]}")
        largest, tokens = max(largest, agreed.largest), tokens + agreed.tokens
    return (
        f"passed: {tokens} log-probabilities, the largest difference {largest:.1e} nats (at most "
        f"{limit['largest']:g}, {found['versions']['vllm']})"
    )
