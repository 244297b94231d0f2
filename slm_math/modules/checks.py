"""What can be known to go wrong before, or at, the first update."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from slm_math.agents import Agent
from slm_math.agents.base import MOST_EVENTS
from slm_math.engines.base import Engine
from slm_math.engines.settings import Inference
from slm_math.images import ImageError, chat_images
from slm_math.losses.advantages import Advantage
from slm_math.losses.objective import Objective
from slm_math.modules.roles import check_frozen_engines, check_served
from slm_math.policy.chat import ChatFormat
from slm_math.ranges import check_number, check_whole
from slm_math.records.record import recorded_images
from slm_math.records.seeing import hidden
from slm_math.rewards import Reward, check
from slm_math.types import Generate, Note, Problem, Task, Trace


def check_sampling(
    inference: Inference,
    roles: Sequence[str],
    group_size: int,
    resample: int | None,
    rewarded: Collection[str],
) -> None:
    """Raises ValueError for a way to sample that gives nothing to learn from; `rewarded` are the
    roles with a reward.
    """
    check_whole("group_size", group_size)
    if rewarded and group_size < 2:
        raise ValueError(
            f"group_size must be at least 2, got {group_size}: a reward is compared with those of "
            "the group's other samples (with a teacher and rewards: [] it may be 1)"
        )
    check_whole("resample", resample, low=0, optional=True)
    if resample is not None and not rewarded:
        raise ValueError("resample drops groups whose rewards are all equal: there is no reward")
    for role in roles:
        if inference.sampling_of(role).temperature == 0:
            raise ValueError(
                f"temperature 0 makes all samples of a group equal: role {role!r} is trained, set "
                "inference.sampling.temperature above 0"
            )


def check_ahead(ahead: int, inference: Inference, resample: int | None) -> None:
    """Raises ValueError where sampling cannot be a step ahead of training."""
    if ahead not in (0, 1):
        raise ValueError(f"ahead must be 0 or 1, got {ahead}")
    if not ahead:
        return
    if not inference.vllm.servers:
        raise ValueError(
            "ahead 1 needs servers, since an engine of this process cannot sample while it trains: "
            "start them with scripts/serve_vllm.sh, and name them in inference.vllm.servers"
        )
    if resample is not None:
        raise ValueError(
            "ahead 1 and resample exclude each other: which problems a step needs is known only "
            "when it has been sampled"
        )


def check_objective(
    objective: Objective,
    advantage: Advantage,
    reference_update: float,
    resample: int | None,
    needs_reference: bool,
) -> None:
    """Raises ValueError for options that exclude each other, or would have no effect."""
    check_number("reference_update", reference_update, low=0, high=1)
    if advantage.per_part and objective.beta and objective.kl_in == "reward":
        raise ValueError(
            "advantage.per_part and objective.kl_in reward exclude each other: use kl_in loss"
        )
    if reference_update and not needs_reference:
        raise ValueError(
            "reference_update moves a reference, and without objective.beta there is none: set both"
        )
    if resample is not None and advantage.baseline in ("batch", "none"):
        raise ValueError(
            "resample drops groups whose rewards are all equal; with advantage.baseline "
            f"{advantage.baseline} such groups still produce a gradient: unset resample"
        )


def check_roles(
    agent: Agent,
    rewards: Sequence[Reward],
    module: Any,
    engines: Mapping[str, Engine],
    taught: Collection[str] = (),
) -> None:
    """Raises ValueError for roles that no agent plays, no reward scores or no engine serves, that
    cannot be trained, or that would change although they are not trained.

    Args:
        agent: what is rolled out.
        rewards: what scores it.
        module: the `PolicyModule` that trains and serves roles.
        engines: those of the other roles.
        taught: the roles with a teacher, which need no reward.
    """
    for role in module.train_roles:
        if role not in agent.roles:
            names = ", ".join(agent.roles)
            raise ValueError(f"train_roles names {role!r}; {type(agent).__name__} has {names}")
        if role in engines:
            refusal = engines[role].refuse_training(role)
            raise ValueError(
                refusal or f"role {role!r} is trained: it is served by the policy, not by engines"
            )
    check_frozen_engines(module, engines, "engines")
    check_served(agent.roles, type(agent).__name__, module, engines)
    asked = [role for reward in rewards for role in reward.roles]
    module.inference.check_roles([*agent.roles, *asked])
    served = {*module.train_roles, *module.frozen, *engines}
    check(rewards, module.train_roles, served, taught)


def check_prompts(
    agent: Agent, tasks: Sequence[Task], chat: ChatFormat, context: int | None
) -> set[str]:
    """The ids of the problems whose first prompt leaves no room for a reply in the model's context
    with its images.

    Raises ValueError when one without images leaves none, for an image that cannot be seen, and
    when a problem has images that the model or the agent's prompt would not see.
    """
    long: set[str] = set()
    for task in tasks:
        images = task.problem.images
        if not (context or images):
            continue
        requests = first_requests(agent, task.problem)
        if images:
            check_sight(task.problem, chat)
            check_shown(agent, task.problem, requests)
        for request in requests if context else ():
            length = prompt_length(request, chat, context or 0)
            if length < (context or 0):
                continue
            if chat_images(request.chat):
                long.add(task.problem.id)
                continue
            raise ValueError(
                f"problem {task.problem.id} makes a prompt of {length} tokens, and the "
                f"model's context holds "
                f"{context}: leave it out, shorten the agent's prompt, or take a model with "
                f"more context"
            )
    return long


def first_requests(agent: Agent, problem: Problem) -> list[Generate]:
    """The first requests of a workflow for replies; [] if it needs something else before."""
    workflow = agent.solve(problem)
    effects = next(workflow, [])
    try:
        for _ in range(MOST_EVENTS):
            if not effects or not all(isinstance(each, Note) for each in effects):
                break
            effects = workflow.send([None] * len(effects))
    except StopIteration:
        return []
    workflow.close()
    return [each for each in effects if isinstance(each, Generate)]


def check_sight(problem: Problem, chat: ChatFormat) -> None:
    """Raises ValueError for a problem with images that the model would not see."""
    name = f"problem {problem.id}"
    if chat.sight is None:
        raise ValueError(
            f"{name} has images, and the model takes text only: it would be trained without seeing "
            "them (docs/vision.md has models that see)"
        )
    try:
        chat.sight.extent(problem.images)
    except ImageError as error:
        raise ValueError(f"{name}: {error}") from None


def check_shown(agent: Agent, problem: Problem, requests: Sequence[Generate]) -> None:
    """Raises ValueError if the first of an agent's requests does not show every image of its
    problem: a model must not be trained to answer without seeing.
    """
    for request in requests[:1]:
        images, shown = problem.images, chat_images(request.chat)
        missing = hidden(recorded_images(images), recorded_images(shown))
        if missing:
            raise ValueError(
                f"problem {problem.id} has images, and the first request of "
                f"{type(agent).__name__} (role {request.role!r}) shows "
                f"{len(images) - missing} of {len(images)}: make its chat with "
                "problem.ask(prompt)"
            )


def check_traces(agent: Agent, traces: Iterable[Trace]) -> None:
    """`check_shown` on what an agent did; it may do otherwise than with other replies."""
    for trace in traces:
        if trace.problem.images:
            check_shown(agent, trace.problem, [turn.request for turn in trace.turns[:1]])


def prompt_length(request: Generate, chat: ChatFormat, context: int) -> int:
    """The positions of a prompt; 0 for one that is certainly shorter than the context."""
    images = chat_images(request.chat)
    # a character is four bytes at most, and a token one at least
    if not images and 4 * len(chat.render(request.chat, request.resume)) < context:
        return 0
    extra = chat.sight.extent(images).extra if chat.sight is not None else 0
    return len(chat.encode(request.chat, request.resume)) + extra


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
    for module in cast(Any, model.modules()):  # attributes of some are numbers
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
