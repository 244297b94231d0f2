"""Credit by sampled continuations in a step of training: the policy goes on from each turn."""

from __future__ import annotations

from pathlib import Path

from tiny import grpo, problems, trainer

from slm_math.agents import SelfCorrection
from slm_math.prompts import Prompt
from slm_math.rewards import TurnWorth
from slm_math.types import Sampling


def test_a_step_is_trained_with_continuations_of_the_policy(tmp_path: Path) -> None:
    agent = SelfCorrection(prompt=Prompt("solve_plain"), correct_prompt=Prompt("solve_plain"))
    module = grpo(
        agent=agent,
        rewards=[TurnWorth(agent, draws=1)],
        group_size=2,
        sampling=Sampling(1.0, max_new_tokens=3),
    )
    trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(module, problems(batch_size=2, limit=2))
    rollouts = module.last_rollouts
    assert len(rollouts) == 4
    assert all(set(one.parts["solver"]) == {"turn_worth"} for one in rollouts)
    assert not any(one.errors for one in rollouts)
    assert all(one.rewards["solver"] == float(one.correct) for one in rollouts)
