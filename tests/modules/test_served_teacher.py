"""A teacher behind `vllm serve` teaches what the same model in the trainer's process does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engines.vllm_endpoint import serving
from tiny import grpo, model_folder, problems, trainer, watch_gradients

from slm_math.modules.teacher import Teacher
from slm_math.types import Sampling


def test_served_teacher_gives_the_gradients_of_the_local_one(tmp_path: Path) -> None:
    folder = str(model_folder(tmp_path / "teacher", seed=3))
    found = []
    with serving(seed=3) as [server]:
        for teacher in (Teacher(folder), Teacher(folder, servers=(server.url,))):
            module = grpo(rewards=[], group_size=2, teacher=teacher)
            found.append(watch_gradients(module))
            trainer(tmp_path, limit_train_batches=1).fit(module, problems())
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-6)
    assert max(gradient.abs().max().item() for gradient in found[0].values()) > 1e-4


def test_server_that_disagrees_with_itself_is_refused(tmp_path: Path) -> None:
    folder = str(model_folder(tmp_path / "teacher", seed=3))
    with serving(seed=3) as [server]:
        server.noise = 0.5
        module = grpo(rewards=[], teacher=Teacher(folder, servers=(server.url,)))
        with pytest.raises(ValueError, match="disagrees with itself"):
            trainer(tmp_path, limit_train_batches=1).fit(module, problems())


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.7), Sampling(top_p=0.9)])
def test_samples_that_servers_cannot_score_are_refused(sampling: Sampling) -> None:
    with pytest.raises(ValueError, match="score tokens at temperature 1 among all tokens"):
        grpo(rewards=[], sampling=sampling, teacher=Teacher(servers=("http://127.0.0.1:1",)))
