"""What can be known to go wrong before, or at, the first update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from slm_math.agents import Agent
from slm_math.engines.base import Engine
from slm_math.engines.chat import ChatFormat
from slm_math.types import Generate, Task


def check_roles(trained: Sequence[str], agent: Agent, engines: Mapping[str, Engine]) -> None:
    """Raises ValueError for a trained role that the agent does not have, or that the policy does not serve."""
    for role in trained:
        if role not in agent.roles:
            raise ValueError(f"train_roles names {role!r}; {type(agent).__name__} has {', '.join(agent.roles)}")
        if role in engines:
            refusal = engines[role].refuse_training(role)
            raise ValueError(refusal or f"role {role!r} is trained: it is served by the policy, not by engines")


def check_prompts(agent: Agent, tasks: Sequence[Task], chat: ChatFormat, context: int | None) -> None:
    """Raises ValueError when the first prompt of a problem leaves no room for a reply in the model's context."""
    for task in tasks if context else ():
        workflow = agent.solve(task.problem)
        for request in next(workflow, []):
            # a character is four bytes at most, and a token one at least
            if not isinstance(request, Generate) or 4 * len(chat.render(request.chat, request.resume)) < context:
                continue
            length = len(chat.encode(request.chat, request.resume))
            if length >= context:
                raise ValueError(
                    f"problem {task.problem.id} makes a prompt of {length} tokens, and the model's context holds "
                    f"{context}: leave it out, shorten the agent's prompt, or take a model with more context"
                )
        workflow.close()


def check_reference(logps: Tensor, reference: Tensor, precision: str) -> None:
    """Before the first update the policy *is* its reference; anything else means that the wrong one was loaded."""
    gap = (logps.detach() - reference).abs().max().item() if len(logps) else 0.0
    if gap > (1e-3 if "32" in precision else 0.1):
        raise RuntimeError(f"the reference policy differs from the policy before the first update, by {gap:.3g} nats")


def without_dropout(model: nn.Module) -> None:
    """Switches dropout off, in training mode, too."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
