"""When tests of the real vLLM run, and the checks of scripts/check_vllm.py that hold for every
engine.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slm_math.engines import vllm_setup

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        vllm_setup.refusal() is not None, reason=vllm_setup.refusal() or "vLLM is there"
    ),
]
Hold = Callable[[Iterator[Any]], None]
GENERATION = (
    "greedy",
    "logprobs",
    "samples",
    "distribution",
    "stops",
    "ends",
    "first",
    "full",
    "resume",
    "cancel",
)
