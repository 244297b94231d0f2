"""Samples the groups of a step: rolls out, grades and scores problems, and draws more if needed.

Axes: P problems, G samples of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch

from slm_math.answers.graded import GradedTrace
from slm_math.losses.advantages import has_signal
from slm_math.policy.ranks import gather_over_ranks, rank, rank_count, sum_over_ranks
from slm_math.rewards import Scores
from slm_math.types import Task


@dataclass(frozen=True)
class Rollout(GradedTrace):
    """A graded trace with its scores, see `Scores`.

    By role: `rewards` (weighted totals; NaN: not scored), `parts` (unweighted, by the name of the
    reward), `credits` and `blame` (weights of turns), `part_credits` and `part_blame` (of each
    part) and `errors` (by the name of the reward).
    """

    rewards: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    credits: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    blame: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    part_credits: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    part_blame: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, graded: GradedTrace, scores: Scores) -> Rollout:
        return cls(
            **vars(graded),
            rewards=scores.totals,
            parts=scores.parts,
            credits=scores.credits,
            blame=scores.blame,
            part_credits=scores.part_credits,
            part_blame=scores.part_blame,
            errors=scores.errors,
        )

    def hit_length_limit(self, role: str) -> bool:
        """Whether a reply of a role hit the length limit."""
        turns = (turn for turn in self.trace.turns if turn.request.role == role)
        return any(turn.reply.finish == "length" for turn in turns)


Group: TypeAlias = list[Rollout]
Key: TypeAlias = tuple[int | str, ...]


@dataclass(frozen=True)
class SampledGroups:
    """Groups to train on, each with G rollouts, and all rollouts that were sampled for them, also
    those of groups that were dropped.
    """

    groups: list[Group]
    rollouts: list[Rollout]


class GroupSource(Protocol):
    """The groups of a step. Rows carry the version of the weights that sampled them, so a
    source may also give groups that an earlier policy sampled.
    """

    def take(self, tasks: Sequence[Task], key: Key, roles: Sequence[str]) -> SampledGroups:
        """This rank's share of the groups of a step that `roles` learn from, for its share of P
        problems.
        """
        ...


class OnPolicyGroups:
    """Samples groups from the present policy when they are asked for.

    Args:
        sample: (problems, key) -> for each a group of G scored rollouts; the key tells draws apart.
        resample: None keeps all groups. A number drops groups whose rewards are all equal and
            samples further problems instead, at most so many batches of them, until P groups are
            left (dynamic sampling, Yu et al. 2025, eq. 11).
        more: this rank's share of a further batch of problems, for `resample`.
        device: where ranks exchange numbers.
    """

    def __init__(
        self,
        sample: Callable[[Sequence[Task], Key], list[Group]],
        resample: int | None = None,
        more: Callable[[], Sequence[Task]] = list,
        device: torch.device | str = "cpu",
    ) -> None:
        self.sample = sample
        self.resample = resample
        self.more = more
        self.device = device

    def take(self, tasks: Sequence[Task], key: Key, roles: Sequence[str]) -> SampledGroups:
        if self.resample is None:
            groups = self.sample(tasks, (*key, 0))
            return SampledGroups(groups, [rollout for group in groups for rollout in group])
        wanted = int(sum_over_ranks(len(tasks), self.device))
        rollouts: list[Rollout] = []
        live: dict[tuple[int, int], Group] = {}  # by (draw, place in the batch of all ranks)
        for draw in range(self.resample + 1):
            if draw:
                tasks = self.more()
            for place, group in enumerate(self.sample(tasks, (*key, draw))):
                rollouts += group
                if _has_signal(group, roles):
                    live[draw, place * rank_count() + rank()] = group
            if sum_over_ranks(len(live), self.device) >= wanted:
                break
        first = sorted(at for places in gather_over_ranks(list(live)) for at in places)[:wanted]
        return SampledGroups([live[at] for at in first if at in live], rollouts)


def _has_signal(group: Group, roles: Sequence[str]) -> bool:
    """Whether the rewards of one of the roles differ within a group."""
    rewards = [[rollout.rewards[role] for rollout in group] for role in roles]
    return bool(has_signal(torch.tensor(rewards, dtype=torch.float64)).any())
