"""What tests of teachers share: a student, a short run of it, what it sampled, and plain logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import grpo, problems, trainer

from slm_math.losses.objective import Objective
from slm_math.modules.grpo import GRPOModule
from slm_math.modules.teacher import Teacher
from slm_math.policy.config import Policy


def student(teacher: Teacher | None, policy: Policy | None = None, **options: Any) -> GRPOModule:
    """A GRPO module that learns from its teacher alone, unless the options say otherwise."""
    defaults = {"rewards": [], "group_size": 2, "objective": Objective(mismatch="none")}
    return grpo(policy, **(defaults | {"teacher": teacher} | options))


def one_step(module: GRPOModule, root: Path, steps: int = 1, **data: Any) -> dict[str, float]:
    """The metrics of the last step of a short run."""
    seen: dict[str, float] = {}
    module.log_scalars = lambda values, rows, shown=(): seen.update(values)  # type: ignore[assignment,misc]
    trainer(root, limit_train_batches=steps).fit(module, problems(**data))
    return seen


def replies(module: GRPOModule) -> list[tuple[tuple[int, ...], int]]:
    """(ids, length of the prompt) of each sample of the last step."""
    turns = [rollout.trace.turns[0].reply for rollout in module.last_rollouts]
    return [((*turn.prompt_ids, *turn.token_ids), len(turn.prompt_ids)) for turn in turns]


def logits(model: Any, ids: tuple[int, ...], start: int) -> torch.Tensor:
    """The logits (m, V) at the reply's tokens, by plain transformers."""
    return model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1]
