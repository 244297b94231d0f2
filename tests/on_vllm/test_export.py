"""Exports in vLLM: whole models and adapters are served as they were trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from exports.shapes import base_of_shape, exported, lora, move, stirred
from on_vllm.checks import NEEDS_VLLM

from slm_math.exports.served import served
from slm_math.policy.config import Policy

pytestmark = NEEDS_VLLM


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_export_is_served_as_it_was_trained(adaptation: str, tmp_path: Path) -> None:
    base = base_of_shape("qwen2", tmp_path / "base", hidden_size=128)  # heads of 32
    policy = Policy(path=str(base), lora=lora() if adaptation == "lora" else None)
    loaded = stirred(policy)
    certificate = exported(policy, loaded, tmp_path / "x")
    said = served(tmp_path / "x", certificate)
    assert said is not None
    assert said.startswith("passed: 320 log-probabilities")
    if adaptation == "full":
        move(loaded, 0.3)
        with pytest.raises(ValueError, match=r"vLLM does not serve .* as it was trained: weights"):
            served(tmp_path / "x", exported(policy, loaded, tmp_path / "y"))
