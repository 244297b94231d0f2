"""How the rewards of a trace make one number per role."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from slm_math.agents.base import owner_name, work_name
from slm_math.answers.graded import GradedTrace
from slm_math.rewards.base import Reward, Scored, replies_of
from slm_math.rewards.credits import Credit, combined
from slm_math.types import Workflow

NAN = float("nan")
Key: TypeAlias = tuple[str, str]  # role and name of a reward


@dataclass(frozen=True)
class Scores:
    """What the rewards say of one trace; every mapping is by role.

    Args:
        parts: unweighted scores by the name of the reward; NaN where there is none.
        totals: weighted sums; NaN where a part that counts is NaN.
        credits: weights of the role's turns by their index in `trace.turns`, sum 1; only of roles
            whose rewards gave some (see `turn_factors`).
        blame: these weights where the advantage is negative.
        part_credits: `credits` of single rewards, by the name of those that gave some.
        part_blame: `blame` of single rewards.
        errors: by the name of the reward, why its workflow could not be finished; only of those
            that broke.
    """

    parts: Mapping[str, Mapping[str, float]]
    totals: Mapping[str, float]
    credits: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    blame: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    part_credits: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    part_blame: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def score(rewards: Sequence[Reward], graded: GradedTrace, roles: Sequence[str]) -> Scores:
    """The scores of one trace by rewards that ask no model; rewards that ask one have no score yet.

    `rollout.scoring.score_traces` runs both kinds. Raises ValueError for a score that is infinite
    or no number, and for a credit that does not fit the turns of its role.
    """
    values = called(rewards, graded, roles)
    errors: dict[Key, str] = {}
    for key, value in values.items():
        if isinstance(value, Generator):
            value.close()
            errors[key] = "asks a model, which only training does"
    return assembled(rewards, graded, roles=roles, values=values, errors=errors)


def called(
    rewards: Sequence[Reward],
    graded: GradedTrace,
    roles: Sequence[str],
    key: tuple[int | str, ...] = (),
) -> dict[Key, Scored | Workflow[Scored]]:
    """What the rewards of `roles` return for a trace: scores, and workflows that were not started.
    `key` is what random numbers may depend on (see `Reward.scored`).

    A trace whose workflow broke has no scores, and neither has a role without a reply in it. What a
    reward raises is raised with a note that names the reward.
    """
    speakers = {turn.request.role for turn in graded.trace.turns if not graded.trace.error}
    where = work_name(graded.task.problem, graded.trace.sample)
    values: dict[Key, Scored | Workflow[Scored]] = {}
    for reward in rewards:
        if reward.role in roles:
            spoke = reward.role in speakers
            try:
                value = reward.scored(graded, key) if spoke else None
            except Exception as error:
                error.add_note(f"in {owner_name(reward)} on {where}")
                raise
            values[reward.role, reward.name] = value
    return values


def assembled(
    rewards: Sequence[Reward],
    graded: GradedTrace,
    roles: Sequence[str],
    values: Mapping[Key, Any],
    errors: Mapping[Key, str],
) -> Scores:
    """The scores of one trace from what its rewards returned (see `called`); a part with an error
    is NaN. Raises ValueError like `score`.
    """
    parts: dict[str, dict[str, float]] = {role: {} for role in roles}
    credits: dict[str, dict[str, tuple[float, Credit]]] = {role: {} for role in roles}
    reasons: dict[str, dict[str, str]] = {}
    for reward in rewards:
        role, name = key = reward.role, reward.name
        if role not in roles:
            continue
        value = None if key in errors else values[key]
        if key in errors:
            reasons.setdefault(role, {})[name] = errors[key]
        if isinstance(value, Credit):
            credits[role][name] = reward.weight, value
            _check_turns(reward, value, graded)
            value = value.score
        parts[role][name] = _number(reward, value, graded)
    sides = []
    for negative in (False, True):
        of_role: dict[str, Mapping[int, float]] = {}
        of_part: dict[str, Mapping[str, Mapping[int, float]]] = {}
        for role, each in credits.items():
            of_role[role] = _by_turn(combined([*each.values()], negative), graded, role)
            of_part[role] = {
                name: _by_turn(combined([one], negative), graded, role)
                for name, one in each.items()
            }
        sides.append([{role: own for role, own in by.items() if own} for by in (of_role, of_part)])
    (earned, part_credits), (blame, part_blame) = sides
    return Scores(
        parts=parts,
        totals={role: total(rewards, parts[role], role) for role in roles},
        credits=earned,
        blame=blame,
        part_credits=part_credits,
        part_blame=part_blame,
        errors=reasons,
    )


def part_names(rewards: Sequence[Reward], roles: Sequence[str]) -> dict[str, list[str]]:
    """role -> the names of its rewards, in their order."""
    return {role: [each.name for each in rewards if each.role == role] for role in roles}


def total(rewards: Sequence[Reward], parts: Mapping[str, float], role: str) -> float:
    """The weighted sum of a role's parts; NaN when a part that counts is NaN."""
    return math.fsum(
        reward.weight * parts[reward.name]
        for reward in rewards
        if reward.role == role and reward.weight
    )


def _number(reward: Reward, value: Any, graded: GradedTrace) -> float:
    if value is None:
        return NAN
    try:
        number = math.inf if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):  # it would leave nothing of its group
        raise ValueError(
            f"reward {reward.name!r} of role {reward.role!r} is {value!r:.200} for problem "
            f"{graded.task.problem.id}: it must be a finite number, None, or a Credit"
        )
    return number


def _check_turns(reward: Reward, credit: Credit, graded: GradedTrace) -> None:
    spoke = len(replies_of(graded.trace, reward.role))
    if len(credit.turns) != spoke:
        raise ValueError(
            f"reward {reward.name!r} gives credit to {len(credit.turns)} turns of role "
            f"{reward.role!r} for problem {graded.task.problem.id}, and the role has {spoke} turns"
        )


def _by_turn(weights: tuple[float, ...] | None, graded: GradedTrace, role: str) -> dict[int, float]:
    """The weights of a role's turns by their index among all turns of the trace."""
    turns = graded.trace.turns
    own = [index for index, turn in enumerate(turns) if turn.request.role == role]
    return dict(zip(own, weights or ()))
