"""Groups that servers sample one step ahead of training, while the step before is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from slm_math.rollout.groups import Group, Key, SampledGroups
from slm_math.types import Task

Draw: TypeAlias = tuple[Sequence[Task], Key]


class Sampling(Protocol):
    """The groups of one step while they are sampled."""

    @property
    def under_way(self) -> bool: ...

    def advance(self, wait: bool = True) -> None: ...

    def scored_groups(self) -> list[Group]:
        """The groups with their rewards, once nothing is under way."""
        ...

    def close(self) -> None: ...


class GroupsAhead:
    """Gives the groups that were begun a step before, and begins those of the next step.

    The weights that sample a step are then one step older than those that it trains. A step that
    was not foreseen (the first one, or the first one of a resumed run) is sampled when it is asked
    for. Workflows go on when `advance` is called, between micro-batches, and when somebody waits
    for them; requests are answered all the time, since servers compute elsewhere.

    Args:
        begin: (problems, key) -> their sampling, with the weights of this moment.
        upcoming: the problems and the key of the next step; None if there will be none.
    """

    def __init__(
        self, begin: Callable[[Sequence[Task], Key], Sampling], upcoming: Callable[[], Draw | None]
    ) -> None:
        self.begin = begin
        self.upcoming = upcoming
        self._begun: tuple[Sequence[Task], Key, Sampling] | None = None

    def take(self, tasks: Sequence[Task], key: Key, roles: Sequence[str]) -> SampledGroups:
        sampling = self._foreseen(tasks, key) or self.begin(tasks, (*key, 0))
        try:
            while sampling.under_way:
                sampling.advance()
            groups = sampling.scored_groups()
        finally:
            sampling.close()
        following = self.upcoming()
        if following is not None:
            problems, name = following
            self._begun = problems, name, self.begin(problems, (*name, 0))
        return SampledGroups(groups, [rollout for group in groups for rollout in group])

    def _foreseen(self, tasks: Sequence[Task], key: Key) -> Sampling | None:
        """What was begun for this step; what was begun for another one is dropped."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        problems, name, sampling = begun
        if name == key and [t.problem.id for t in problems] == [t.problem.id for t in tasks]:
            return sampling
        sampling.close()
        return None

    def advance(self) -> None:
        """Takes what servers have answered, and sends what follows from it, without waiting."""
        if self._begun is not None and self._begun[2].under_way:
            self._begun[2].advance(wait=False)

    def settle(self) -> None:
        """Waits until nothing is under way, so that servers may get other weights."""
        while self._begun is not None and self._begun[2].under_way:
            self._begun[2].advance()

    def close(self) -> None:
        """Drops what is under way."""
        if self._begun is not None:
            self._begun[2].close()
            self._begun = None
