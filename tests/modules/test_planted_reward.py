"""GRPO's step under rewards whose worth is known: a reply is one token, so the expected reward and
its gradient can be written down, and the mean of many steps must be that gradient.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Even, grpo, problems, trainer
from torch import Tensor

from slm_math.answers.graded import GradedTrace
from slm_math.losses.advantages import Advantage
from slm_math.losses.objective import Objective
from slm_math.prompts import Prompt
from slm_math.rewards import Reward
from slm_math.types import Sampling

GROUP, STEPS, PROBLEMS = 8, 30, 7


class Coin(Reward):
    """A random reward, whatever the reply is."""

    def __init__(self) -> None:
        self.draw = random.Random(0)

    def __call__(self, graded: GradedTrace) -> float:
        return float(self.draw.random() < 0.3)


def expected_gradient(module: Any, tasks: list[Any]) -> Tensor:
    """That of the mean over problems of the expected reward: of sum_a pi(a) r(a), where r is 1 for
    even tokens.
    """
    prompt = Prompt("solve_plain")
    total = torch.zeros(())
    for task in tasks:
        ids = torch.tensor([module.chat.encode(task.problem.ask(prompt))])
        chances = module.model(input_ids=ids).logits[0, -1].softmax(-1)
        total = total + chances[::2].sum() / len(tasks)
    gradient = torch.autograd.grad(total, list(module.model.parameters()), allow_unused=True)
    return torch.cat([each.flatten() for each in gradient if each is not None])


def steps(folder: Path, reward: Reward, advantage: Advantage) -> tuple[Tensor, Tensor]:
    """The gradient of the loss in each step (STEPS, weights), of weights that do not move, and the
    expected gradient of the reward.
    """
    module = grpo(
        rewards=[reward],
        group_size=GROUP,
        sampling=Sampling(1.0, max_new_tokens=1),
        advantage=advantage,
        objective=Objective("grpo", beta=0.0),
    )
    data = problems(batch_size=PROBLEMS, limit=PROBLEMS)
    made: list[Tensor] = []

    def keep() -> float:
        gradients = [p.grad for p in module.model.parameters() if p.grad is not None]
        made.append(torch.cat([each.flatten().clone() for each in gradients]))
        module.model.zero_grad()
        return 0.0

    module.step_optimizer = keep  # type: ignore[method-assign]
    trainer(folder, max_epochs=STEPS, limit_val_batches=0).fit(module, data)
    return torch.stack(made), expected_gradient(module, data.tasks)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("advantage", "share"),
    [
        (Advantage("group", "none"), 1 - 1 / GROUP),  # its own sample is in the baseline
        pytest.param(Advantage("leave_one_out", "none"), 1.0, marks=pytest.mark.slow),
        pytest.param(Advantage("none", "none"), 1.0, marks=pytest.mark.slow),
    ],
)
def test_the_mean_step_is_the_gradient_of_the_expected_reward(
    advantage: Advantage, share: float, tmp_path: Path
) -> None:
    gradients, expected = steps(tmp_path, Even(), advantage)
    along = -(gradients @ expected) / expected.dot(expected)
    mean, error = mean_and_error(along)
    assert error < 0.25  # or nothing would be shown
    assert abs(mean - share) < 4 * error
    across = torch.randn(len(expected), generator=torch.Generator().manual_seed(0))
    across -= across.dot(expected) / expected.dot(expected) * expected
    mean, error = mean_and_error(gradients @ across)
    assert abs(mean) < 4 * error


@pytest.mark.parametrize("scale", [pytest.param("none", marks=pytest.mark.slow), "group"])
def test_a_reward_without_a_meaning_moves_nothing_on_average(scale: Any, tmp_path: Path) -> None:
    gradients, expected = steps(tmp_path, Coin(), Advantage("group", scale))
    assert gradients.abs().max() > 0
    draw = torch.Generator().manual_seed(1)
    for direction in (expected, *torch.randn(5, len(expected), generator=draw)):
        mean, error = mean_and_error(gradients @ direction)
        assert abs(mean) < 4 * error


@pytest.mark.slow
def test_the_scaled_step_points_up_the_reward(tmp_path: Path) -> None:
    gradients, expected = steps(tmp_path, Even(), Advantage("group", "group"))
    mean, error = mean_and_error(-(gradients @ expected) / expected.dot(expected))
    # rewards of 0 and 1 at even chances have a deviation of about a half
    assert mean > 1 + 4 * error
