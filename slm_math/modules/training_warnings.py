"""Warnings of a GRPO step about rollouts that give no gradient, or a misleading one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

from slm_math.metrics.records import distinct_rewards
from slm_math.modules.drift import DriftWatch
from slm_math.records.record import Record
from slm_math.records.seeing import seen, unseen
from slm_math.rollout.groups import Rollout
from slm_math.visible import visible


class TrainingWarnings:
    """Tells people, once each, why a role cannot learn, or learns from other tokens than they
    think.

    Args:
        roles: the trained roles that rewards alone train.
        steps: a reward that is the same in so many steps from the first one is called constant.
    """

    def __init__(self, roles: Sequence[str], steps: int = 5) -> None:
        self.roles = tuple(roles)
        self.steps = steps
        self._seen = 0
        self._rewards: dict[str, set[float]] = {role: set() for role in roles}
        self._spoke: set[str] = set()
        self._greedy: set[str] = set()
        self._blind: set[str] = set()
        self.drift = DriftWatch()

    def of_step(
        self, step: int, records: Sequence[Record], rollouts: Sequence[Rollout]
    ) -> Iterable[str]:
        """What there is to say about a step, a line each.

        Args:
            step: its number.
            records: those of all ranks.
            rollouts: those of this rank.
        """
        broken = [record.error for record in records if record.broken]
        skipped = [record.error for record in records if record.skipped]
        if broken:
            yield (
                f"step {step}: {len(broken)} of {len(records)} workflows broke, the first: "
                f"{visible(broken[0])}"
            )
        if skipped:
            yield (
                f"step {step}: {len(skipped)} of {len(records)} workflows were skipped, the first: "
                f"{skipped[0]}"
            )
        yield from _unscored(step, records)
        if (
            self.roles
            and records
            and not any(any(record.advantages.values()) for record in records)
        ):
            yield f"step {step}: {_dead_groups(records, len(self.roles))}"
        for each in unseen((seen(record), 1) for record in records):
            if each.role not in self._blind:
                self._blind.add(each.role)
                yield f"warning: {each} of step {step}"
        yield from self._constant(records)
        yield from self.drift.of_step(records)
        self._check_greedy(rollouts)

    def _constant(self, records: Sequence[Record]) -> Iterable[str]:
        if not records or self._seen >= self.steps:
            return
        self._seen += 1
        self._spoke |= {turn.role for record in records for turn in record.turns}
        for role in self.roles:
            self._rewards[role] |= distinct_rewards(records, role)
            if self._seen == self.steps and len(self._rewards[role]) == 1:
                [reward] = self._rewards[role]
                yield (
                    f"warning: every reward of role {role!r} was {reward:g} in the first "
                    f"{self.steps} steps: there is nothing to learn. Check the rewards, the "
                    "prompt, and whether replies hit the token limit (train/truncated). "
                    f"{_example(records)}"
                )
            if self._seen == self.steps and not self._rewards[role]:
                what = "no reward scored" if role in self._spoke else "no reply came from"
                yield (
                    f"warning: {what} the trained role {role!r} in the first {self.steps} steps: "
                    "it cannot learn"
                )

    def _check_greedy(self, rollouts: Sequence[Rollout]) -> None:
        """Warns when an agent itself asked for greedy replies of a trained role."""
        turns = (turn for rollout in rollouts for turn in rollout.trace.turns)
        greedy_roles = {turn.request.role for turn in turns if turn.request.temperature == 0}
        for role in sorted(greedy_roles & set(self.roles) - self._greedy):
            self._greedy.add(role)
            warnings.warn(
                f"the agent asks the trained role {role!r} for greedy replies: these are not "
                "trained on",
                stacklevel=2,
            )


def _example(records: Sequence[Record]) -> str:
    """What the grader compared in one sample, in a line: a gold answer in a form that no reply can
    equal shows here. A sample with an answer says more than one without.
    """
    record = max(records, key=lambda one: (bool(one.answer), one.error is None))
    answer = _line(record.answer) if record.answer else "no answer"
    return f"For example {record.id}: gold {_line(record.gold)}, got {answer} ({record.reason})"


def _line(text: str, width: int = 60) -> str:
    """A text in quotes on a line, shortened."""
    return repr(text if len(text) <= width else f"{text[: width - 3]}...")


def _unscored(step: int, records: Sequence[Record]) -> Iterable[str]:
    """A line for each reward that could not be computed for some samples."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for role, errors in record.reward_errors.items():
            for name, reason in errors.items():
                reasons.setdefault((role, name), []).append(reason)
    for (role, name), those in reasons.items():
        yield (
            f"step {step}: reward {name!r} of role {role!r} is missing for {len(those)} of "
            f"{len(records)} samples, the first: {visible(those[0])}"
        )


def _dead_groups(records: Sequence[Record], roles: int) -> str:
    learning = {role: 0 for record in records for role in record.advantages}
    of_role = f" for {', '.join(learning)}, whose turn it is," if 0 < len(learning) < roles else ""
    rewards = ", ".join(
        f"{f'{role} ' if len(learning) > 1 else ''}{_mean_reward(records, role)}"
        for role in learning
    )
    groups = len({record.id for record in records})
    return (
        f"all {groups} groups are dead{of_role} (the samples of a problem earned the same, "
        f"{rewards or 'none was scored'}): nothing to learn from"
    )


def _mean_reward(records: Sequence[Record], role: str) -> str:
    rewards = [
        record.rewards[role]
        for record in records
        if role in record.rewards and not math.isnan(record.rewards[role])
    ]
    return f"mean reward {math.fsum(rewards) / len(rewards):.2f}" if rewards else "none was scored"
