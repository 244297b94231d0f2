"""A real `vllm serve` teaches what the same model in the process of the trainer does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from on_vllm.checks import NEEDS_VLLM
from tiny import grpo, problems, trainer, watch_gradients

from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Policy

pytestmark = [*NEEDS_VLLM, pytest.mark.timeout(1200)]


def test_server_gives_the_gradients_of_the_local_teacher(
    script: Any, models: Any, tmp_path: Path
) -> None:
    student, teacher = (str(models[name][0]) for name in ("tied", "untied"))
    [server] = script.servers.started(Path(teacher), "none", 1, tmp_path)
    try:
        found = []
        servings: tuple[tuple[str, ...], ...] = ((), (server.url,))
        for servers in servings:
            module = grpo(
                Policy(path=student),
                rewards=[],
                group_size=2,
                teacher=Teacher(teacher, servers=servers),
            )
            found.append(watch_gradients(module))
            trainer(tmp_path, limit_train_batches=1).fit(module, problems())
    finally:
        server.kill()
    assert found[0].keys() == found[1].keys()
    largest = max(gradient.abs().max().item() for gradient in found[0].values())
    assert largest > 1e-4
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-4 * largest), name
