"""What `fit` foresees of its first step, against the plan of the same run."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch
from tiny import LORA, SCRATCH, chats, grpo, problems, sft, trainer

from slm_math.modules.base import PolicyModule
from slm_math.planning.devices import device_named
from slm_math.planning.first_step import FirstStep, foresee
from slm_math.planning.network import captures
from slm_math.planning.of_run import setup_of, workload_of
from slm_math.planning.predict import predict
from slm_math.policy.config import Lora, Policy
from slm_math.policy.forward import inner
from slm_math.types import Sampling

IDLE = 1 << 20
ANY = L.LightningDataModule


def fitted(root: Path, module: PolicyModule, data: ANY) -> FirstStep:
    trainer(root, limit_train_batches=0).fit(module, data)
    return foresee(module, data, IDLE)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_memory_is_that_of_the_plan_of_the_same_run(lora: Lora | None, tmp_path: Path) -> None:
    module, data = sft(Policy(scratch=SCRATCH, lora=lora)), chats()
    step = fitted(tmp_path, module, data)
    plan = predict(
        setup_of(module, "32-true"), workload_of(module, data, ()), device_named("cpu"), IDLE
    )
    assert step.bytes == plan.peak
    assert step.seconds > 0


def test_a_plan_draws_nothing_that_the_run_would_draw(tmp_path: Path) -> None:
    before: list[int] = []
    for plans in (False, True):
        module, data = grpo(), problems()
        trainer(tmp_path / str(plans), limit_train_batches=0).fit(module, data)
        torch.manual_seed(7)
        if plans:
            foresee(module, data, IDLE)
        before.append(int(torch.randint(1 << 40, ())))
    assert before[0] == before[1]


def test_tokens_are_those_of_the_mean_step(tmp_path: Path) -> None:
    data = chats(batch_size=8)
    step = fitted(tmp_path, sft(), data)
    lengths = [len(row.ids) for row in data.rows["train"]]
    mean = 8 * sum(lengths) / len(lengths)
    assert abs(step.tokens - mean) < 0.05 * mean  # of 64 of the 84 rows
    assert not step.samples


def test_sampled_tokens_are_at_most_those_of_replies_of_the_longest_kind(tmp_path: Path) -> None:
    module = grpo(sampling=Sampling(max_new_tokens=11), group_size=4)
    step = fitted(tmp_path, module, problems(batch_size=7))
    assert (step.tokens, step.samples) == (7 * 4 * 11, True)


def test_what_is_planned_stands_beside_what_was_measured() -> None:
    assert FirstStep(2.83, 1814.3, False, 1600 << 20).lines(3.14159, 1790.0, 1700 << 20) == [
        "first step: 3.14 s (planned about 2.8 s)",
        "  tokens: 1,790 (planned 1,814)",
        "  peak memory: 1,700 MiB (planned 1,600 MiB)",
    ]


def test_a_look_at_the_network_leaves_it_training(tmp_path: Path) -> None:
    module = grpo()
    fitted(tmp_path, module, problems())
    network = inner(module.loaded.model)
    network.train()
    network.lm_head.eval()
    captures(network)
    assert network.training
    assert not network.lm_head.training
