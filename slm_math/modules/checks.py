"""What can be known to go wrong before, or at, the first update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slm_math.agents import Agent
from slm_math.policy.chat import ChatFormat
from slm_math.rewards import check
from slm_math.types import Generate, Task

if TYPE_CHECKING:
    from slm_math.modules.grpo import GRPOModule


def check_options(module: GRPOModule) -> None:
    """Raises ValueError for options that cannot work, exclude each other, or would
    have no effect.
    """
    sampling, objective, advantage = module.sampling, module.objective, module.advantage
    if module.group_size < 2:
        raise ValueError(
            f"group_size must be at least 2 (advantages compare samples), got {module.group_size}"
        )
    if module.passes < 1 or (module.resample or 0) < 0 or not 0 <= module.reference_update <= 1:
        raise ValueError(
            "passes must be at least 1, resample at least 0 and reference_update in [0, 1], "
            f"got {module.passes}, {module.resample}, {module.reference_update}"
        )
    if sampling.temperature == 0:
        raise ValueError(
            "sampling.temperature 0 makes all samples of a group equal: set it above 0"
        )
    if advantage.per_part and objective.beta and objective.kl_in == "reward":
        raise ValueError(
            "advantage.per_part and objective.kl_in reward exclude each other: use kl_in loss"
        )
    if module.reference_update and not objective.beta:
        raise ValueError(
            "reference_update moves a reference, and without objective.beta there is none: set both"
        )
    if module.resample is not None and advantage.baseline in ("batch", "none"):
        raise ValueError(
            f"resample drops groups whose rewards are all equal; with advantage.baseline "
            f"{advantage.baseline} these "
            "teach, too: leave resample out"
        )
    for role in module.train_roles:
        if role not in module.agent.roles:
            names = ", ".join(module.agent.roles)
            raise ValueError(
                f"train_roles names {role!r}; {type(module.agent).__name__} has {names}"
            )
        if role in module.other_engines:
            refusal = module.other_engines[role].refuse_training(role)
            raise ValueError(
                refusal or f"role {role!r} is trained: it is served by the policy, not by engines"
            )
    check(module.rewards, module.train_roles, {*module.train_roles, *module.other_engines})


def check_prompts(
    agent: Agent, tasks: Sequence[Task], chat: ChatFormat, context: int | None
) -> None:
    """Raises ValueError when the first prompt of a problem leaves no room for a reply in the
    model's context.
    """
    for task in tasks if context else ():
        workflow = agent.solve(task.problem)
        for request in next(workflow, []):
            # a character is four bytes at most, and a token one at least
            if (
                not isinstance(request, Generate)
                or 4 * len(chat.render(request.chat, request.resume)) < context
            ):
                continue
            length = len(chat.encode(request.chat, request.resume))
            if length >= context:
                raise ValueError(
                    f"problem {task.problem.id} makes a prompt of {length} tokens, and the "
                    f"model's context holds "
                    f"{context}: leave it out, shorten the agent's prompt, or take a model with "
                    f"more context"
                )
        workflow.close()


def check_reference(logps: Tensor, reference: Tensor, precision: str) -> None:
    """Before the first update the policy *is* its reference; anything else means that the wrong one
    was loaded.
    """
    gap = (logps.detach() - reference).abs().max().item() if len(logps) else 0.0
    if not gap <= (1e-3 if "32" in precision else 0.1):  # NaN is no agreement
        raise RuntimeError(
            f"the reference policy differs from the policy before the first update, by {gap:.3g} "
            f"nats"
        )


def without_dropout(model: nn.Module) -> None:
    """Switches dropout off, in training mode, too."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
