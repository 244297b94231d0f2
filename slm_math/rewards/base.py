"""What a reward is, and how a role's rewards make one number."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from slm_math.types import Reply, Task, Trace

NAN = float("nan")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Reward:
    """Scores what one role did in a trace with one number; None when there is nothing to score.

    A role's reward is the sum of weight * score over its rewards. Subclasses implement `__call__`;
    without an `__init__` of their own, or without `super().__init__`, they keep these defaults.

    Args:
        weight: factor of the score; 0 only logs it.
        role: the role that receives the reward.
        name: how the part is logged; by default the class's name in snake case.
    """

    weight: float = 1.0
    role: str = "solver"
    name: str = "reward"

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = _WORD.sub("_", cls.__name__).lower()

    def __init__(self, weight: float = 1.0, role: str = "solver", name: str | None = None) -> None:
        self.weight = weight
        self.role = role
        if name is not None:
            self.name = name

    def __call__(self, task: Task, trace: Trace) -> float | None:
        """The unweighted score of a whole trace in which the role spoke."""
        raise NotImplementedError


def score(rewards: Sequence[Reward], task: Task, trace: Trace, role: str) -> dict[str, float]:
    """The unweighted parts of a role's reward by name; NaN marks what has no score.

    That is all of them when the workflow broke or the role said nothing in it, else those that
    returned None. Raises ValueError for an infinite reward, which would leave nothing of its group.
    """
    own = [reward for reward in rewards if reward.role == role]
    if trace.error or not replies_of(trace, role):
        return {reward.name: NAN for reward in own}
    values = {reward.name: reward(task, trace) for reward in own}
    for name, value in values.items():
        if value is not None and math.isinf(value):
            raise ValueError(
                f"reward {name!r} of role {role!r} is {value} for problem {task.problem.id}"
            )
    return {name: NAN if value is None else float(value) for name, value in values.items()}


def total(rewards: Sequence[Reward], parts: dict[str, float], role: str) -> float:
    """The weighted sum of a role's parts; NaN when a part that counts is NaN."""
    return math.fsum(
        reward.weight * parts[reward.name]
        for reward in rewards
        if reward.role == role and reward.weight
    )


def check(rewards: Sequence[Reward], roles: Sequence[str]) -> None:
    """Raises ValueError unless every reward goes to a trained role, under a name of its own, and
    every role has one.
    """
    seen: set[tuple[str, str]] = set()
    for reward in rewards:
        kind, key = type(reward).__name__, (reward.role, reward.name)
        if reward.role not in roles:
            raise ValueError(
                f"reward {kind} is for role {reward.role!r}, and trained are {', '.join(roles)}"
            )
        if key in seen:
            raise ValueError(
                f"two rewards of role {reward.role!r} are called {reward.name!r}: set name of "
                f"{kind}"
            )
        seen.add(key)
    for role in roles:
        if not any(reward.role == role and reward.weight for reward in rewards):
            raise ValueError(f"role {role!r} is trained and has no reward that counts")


def replies_of(trace: Trace, role: str) -> list[Reply]:
    return [turn.reply for turn in trace.turns if turn.request.role == role]
