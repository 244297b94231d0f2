"""GRPO whose rollouts come from vLLM in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from on_vllm.checks import NEEDS_VLLM, Hold

pytestmark = NEEDS_VLLM


@pytest.mark.parametrize("lora", [False, True])
def test_engine_computes_the_policy(script: Any, hold: Hold, tmp_path: Path, lora: bool) -> None:
    hold(script.inside.training(tmp_path, lora))


@pytest.mark.parametrize(("after", "lr"), [(0, 1e-2), (1, 1e-2), (1, 1e-6)])
def test_lost_weights_stop_the_run_before_a_step(
    script: Any, hold: Hold, tmp_path: Path, after: int, lr: float
) -> None:
    hold(script.inside.corrupted(tmp_path, after, lr))
