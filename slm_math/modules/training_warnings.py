"""What a GRPO step has to say about rollouts that teach nothing, or not what people think."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slm_math.metrics.records import distinct
from slm_math.rollout.groups import Rollout
from slm_math.types import Trace


class TrainingWarnings:
    """Tells people, once each, why a role cannot learn or learns from something else than they
    think.

    Args:
        roles: the roles that learn.
        steps: after so many steps with one and the same reward, it is called constant.
    """

    def __init__(self, roles: Sequence[str], steps: int = 5) -> None:
        self.roles = tuple(roles)
        self.steps = steps
        self._seen = 0
        self._rewards: dict[str, set[float]] = {role: set() for role in roles}
        self._spoke: set[str] = set()
        self._greedy: set[str] = set()

    def step(
        self, step: int, rows: Sequence[Mapping[str, Any]], rollouts: Sequence[Rollout]
    ) -> Iterable[str]:
        """What there is to say about a step, a line each: the records of all ranks, and this rank's
        rollouts.
        """
        broken = [row["error"] for row in rows if row["error"] is not None]
        if broken:
            yield (
                f"step {step}: {len(broken)} of {len(rows)} workflows broke, the first: {broken[0]}"
            )
        if rows and not any(any(row["advantages"].values()) for row in rows):
            rewards = [
                value for row in rows for value in row["rewards"].values() if not math.isnan(value)
            ]
            earned = (
                f"mean reward {math.fsum(rewards) / len(rewards):.2f}"
                if rewards
                else "none was scored"
            )
            groups = len({row["id"] for row in rows})
            yield (
                f"step {step}: all {groups} groups are dead (the samples of a problem earned the "
                f"same, {earned}): "
                "nothing to learn from"
            )
        yield from self._constant(rows)
        self._decoding([rollout.trace for rollout in rollouts])

    def _constant(self, rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
        if not rows or self._seen >= self.steps:
            return
        self._seen += 1
        for role in self.roles:
            self._spoke |= {
                event["role"] for row in rows for event in row["events"] if event["kind"] == "turn"
            }
            self._rewards[role] |= distinct(rows, role)
            if self._seen == self.steps and len(self._rewards[role]) == 1:
                [value] = self._rewards[role]
                yield (
                    f"warning: every reward of role {role!r} was {value:g} in the first "
                    f"{self.steps} steps: there is "
                    "nothing to learn. Check the rewards, the prompt, and whether replies are cut "
                    "off (train/truncated)"
                )
            if self._seen == self.steps and not self._rewards[role]:
                what = "no reward scored" if role in self._spoke else "nothing was said by"
                yield (
                    f"warning: {what} the trained role {role!r} in the first {self.steps} steps: "
                    f"it cannot learn"
                )

    def _decoding(self, traces: Sequence[Trace]) -> None:
        """Warns when an agent itself asked for greedy replies of a role that learns."""
        for turn in (turn for trace in traces for turn in trace.turns):
            role = turn.request.role
            if role in self.roles and role not in self._greedy and turn.request.temperature == 0:
                self._greedy.add(role)
                warnings.warn(
                    f"the agent asks the trained role {role!r} for greedy replies: these are not "
                    f"learnt",
                    stacklevel=2,
                )
