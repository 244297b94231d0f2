"""The rollouts of a run by step, group and problem, from the lines that training appends."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slm_math.metrics.intervals import mean_interval
from slm_math.records.encoding import from_json
from slm_math.records.record import Record
from slm_math.report.text import line as clean_line
from slm_math.watching.following import FollowedFile, FollowedFiles, Line
from slm_math.watching.rows import Brief, brief

Key = tuple[int, int]  # epoch and batch


@dataclass(eq=False)
class Group:
    """The samples of one problem in one step, as places in a file; sums of what they have."""

    file: FollowedFile
    problem: int
    key: Key
    places: array = field(default_factory=lambda: array("Q"))
    last: int = -1  # number of the last sample
    right: int = 0
    tokens: int = 0
    truncated: int = 0
    broken: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of rewards by role
    scored: dict[str, int] = field(default_factory=dict)

    def add(self, at: int, sample: Brief) -> None:
        self.places.append(at)
        self.last = sample.sample
        self.right += sample.correct
        self.tokens += sample.tokens
        self.truncated += sample.truncated
        self.broken += sample.broken
        for role, reward in sample.rewards.items():
            if not math.isnan(reward):
                self.sums[role] = self.sums.get(role, 0.0) + reward
                self.scored[role] = self.scored.get(role, 0) + 1

    def reward(self, role: str) -> float | None:
        """The mean reward of the samples that have one."""
        return self.sums[role] / self.scored[role] if self.scored.get(role) else None

    def records(self) -> list[Record]:
        return [record_of(self.file.line_at(at)) for at in self.places]


@dataclass
class Step:
    """The groups of a batch of training. `revision` is that of its last change."""

    key: Key
    step: int  # of the optimizer, after the batch
    groups: list[Group] = field(default_factory=list)
    revision: int = 0

    def metrics(self) -> dict[str, Any]:
        """Counts, and by role the mean of the groups' mean rewards with its 95 % interval."""
        samples = sum(len(group.places) for group in self.groups)
        roles = dict.fromkeys(role for group in self.groups for role in group.scored)
        means = {
            role: [mean for each in self.groups if (mean := each.reward(role)) is not None]
            for role in roles
        }
        return {
            "groups": len(self.groups),
            "samples": samples,
            "right": sum(group.right for group in self.groups),
            "truncated": sum(group.truncated for group in self.groups),
            "broken": sum(group.broken for group in self.groups),
            "tokens": sum(group.tokens for group in self.groups),
            "rewards": {role: mean_interval(values) for role, values in means.items()},
        }


@dataclass
class Problem:
    """A problem that was drawn: its id, its text on a line, and its groups in order."""

    id: str
    text: str
    groups: list[Group] = field(default_factory=list)


class Steps(FollowedFiles):
    """Follows the files of rollouts in a run's folder, one for each rank; `revision` grows with
    every change.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, "rollouts.jsonl", "rollouts.rank-*.jsonl")
        self.revision = 0
        self.forget()

    def forget(self) -> None:
        self.steps: dict[Key, Step] = {}
        self.problems: list[Problem] = []
        self._numbers: dict[str, int] = {}
        self._open: dict[FollowedFile, Group] = {}  # the last group of each file

    def take(self, file: FollowedFile, lines: Sequence[Line]) -> None:
        self.revision += bool(lines)
        for at, line in lines:
            sample = brief(line)
            if sample is not None:
                self._add(file, at, sample, line)

    def _add(self, file: FollowedFile, at: int, sample: Brief, line: bytes) -> None:
        key = sample.epoch, sample.batch
        step = self.steps.get(key)
        if step is None:
            step = self.steps[key] = Step(key, sample.step)
        step.revision = self.revision
        number = self._numbers.get(sample.id)
        if number is None:
            number = self._numbers[sample.id] = len(self.problems)
            self.problems.append(Problem(sample.id, _text(line)))
        group = self._open.get(file)
        same = group is not None and (group.key, group.problem) == (key, number)
        if group is None or not same or group.last >= sample.sample:
            group = self._open[file] = Group(file, number, key)
            step.groups.append(group)
            self.problems[number].groups.append(group)
        group.add(at, sample)

    @property
    def ordered(self) -> list[Step]:
        return [self.steps[key] for key in sorted(self.steps)]


def _text(line: bytes) -> str:
    try:
        return clean_line(str(json.loads(line).get("problem")), 160)
    except (ValueError, AttributeError):
        return ""


def record_of(line: bytes) -> Record:
    """The record of a line. Raises ValueError for a line that was no record, or is none any
    more.
    """
    try:
        return from_json(json.loads(line))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record ({error})") from None
