"""What a reward is, and what is checked before training."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Sequence
from typing import TypeAlias

from slm_math.answers.graded import GradedTrace
from slm_math.ranges import check_number
from slm_math.rewards.credits import Credit
from slm_math.types import Reply, Trace, Workflow

Scored: TypeAlias = float | Credit | None
Key: TypeAlias = tuple[int | str, ...]
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Reward:
    """Scores what one role did in a trace with one number.

    A role's reward is the sum of weight * score over its rewards. Subclasses implement `__call__`;
    without an `__init__` of their own, or without `super().__init__`, they keep these defaults.

    `roles` names the engines that the reward asks, `uses_python` tells whether it runs programs;
    most rewards do neither.

    Args:
        weight: factor of the score; 0 only logs it.
        role: the role that receives the reward.
        name: how the part is logged; by default the class's name in snake case.
    """

    weight: float = 1.0
    role: str = "solver"
    name: str = "reward"
    roles: tuple[str, ...] = ()
    uses_python: bool = False

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = _WORD.sub("_", cls.__name__).lower()
        if "__call__" in vars(cls):
            _check_signature(cls)

    def __init__(self, weight: float = 1.0, role: str = "solver", name: str | None = None) -> None:
        self.weight = weight
        self.role = role
        if name is not None:
            self.name = name

    def __call__(self, graded: GradedTrace) -> Scored | Workflow[Scored]:
        """The unweighted score of a whole trace in which the role spoke.

        Returns a number, None when there is nothing to score, or a `Credit`: a number and the
        weights of the role's turns. A generator is a workflow like that of an agent: it yields
        lists of requests (`Generate` for one of `roles`, `RunPython`) and returns the score.
        """
        raise NotImplementedError

    def scored(self, graded: GradedTrace, key: Key) -> Scored | Workflow[Scored]:
        """The same for a reward that draws random numbers, which depend on `key`: purpose, seed and
        step.
        """
        return self(graded)


def _check_signature(cls: type[Reward]) -> None:
    """Raises TypeError for a reward that takes (task, trace), as rewards did up to 0.1."""
    try:
        inspect.signature(cls.__call__).bind(None, None)
    except TypeError:
        raise TypeError(
            f"reward {cls.__name__}: __call__ must take one graded trace. Write "
            "`def __call__(self, graded)`, with graded.task and graded.trace for the former "
            "arguments (task, trace), and graded.correct for whether the answer is right"
        ) from None


def check(
    rewards: Sequence[Reward],
    roles: Sequence[str],
    served: Collection[str] | None = None,
    taught: Collection[str] = (),
) -> None:
    """Raises ValueError unless every reward goes to a trained role, under a name of its own, every
    role has one, and all engines that rewards ask for are there.

    Args:
        roles: the trained roles.
        served: the roles that have an engine; None leaves out this part of the check.
        taught: the roles that a teacher trains, which need no reward.
    """
    for reward in rewards:
        kind = type(reward).__name__
        if reward.role not in roles:
            raise ValueError(
                f"reward {kind} is for role {reward.role!r}, but the trained roles are "
                f"{', '.join(roles)}"
            )
        for name, value in vars(reward).items():
            if isinstance(value, float):  # a NaN would make every sample one without a reward
                check_number(f"{kind}.{name}", value)
        for name in reward.roles:
            if served is not None and name not in served:
                raise ValueError(
                    f"reward {kind} asks for role {name!r}, and no engine serves this role: set "
                    f"engines.{name}"
                )
    check_names(rewards)
    for role in roles:
        if role not in taught and role not in rewarded(rewards):
            raise ValueError(
                f"role {role!r} is trained but has no reward with a weight and no teacher: add a "
                "reward for it, or set model.teacher"
            )


def check_names(rewards: Sequence[Reward]) -> None:
    """Raises ValueError for two rewards of one role that have the same name."""
    seen: set[tuple[str, str]] = set()
    for reward in rewards:
        key = (reward.role, reward.name)
        if key in seen:
            raise ValueError(
                f"two rewards of role {reward.role!r} are called {reward.name!r}: set name of "
                f"{type(reward).__name__}"
            )
        seen.add(key)


def rewarded(rewards: Sequence[Reward]) -> set[str]:
    """The roles whose reward is more than logged."""
    return {reward.role for reward in rewards if reward.weight}


def replies_of(trace: Trace, role: str) -> list[Reply]:
    """The replies of a role, in order."""
    return [turn.reply for turn in trace.turns if turn.request.role == role]


def answer_of(graded: GradedTrace, role: str, finish: bool) -> str | None:
    """The agent's answer; with `finish` None where the role's last reply did not end by itself, but
    by the token budget.
    """
    replies = replies_of(graded.trace, role)
    hit_length_limit = bool(replies) and replies[-1].finish != "stop"
    return None if finish and hit_length_limit else graded.trace.answer
