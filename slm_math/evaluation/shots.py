"""Few-shot prompting: worked examples from a training split in front of an agent's requests."""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.agents import Agent, FewShot
from slm_math.data.base import Source
from slm_math.data.modules import take
from slm_math.data.overlap import near_exact
from slm_math.types import Task


def with_shots(agent: Agent, shots: int, source: Source, tasks: Sequence[Task], seed: int = 0) -> Agent:
    """The agent, shown `shots` worked problems of the source's training split, none of which is in `tasks`.

    Raises ValueError when there are not so many.
    """
    if shots < 0:
        raise ValueError(f"shots must be 0 or more, got {shots}")
    if not shots:
        return agent
    try:
        worked = [task for task in source.tasks("train") if task.solution]
    except ValueError as error:
        raise ValueError(f"{error}: name another shots_source") from error
    chosen = take(worked, shots + 20, seed)  # some to spare
    asked = near_exact([t.problem.text for t in chosen], [t.problem.text for t in tasks]).values()
    chosen = [task for index, task in enumerate(chosen) if index not in asked][:shots]
    if len(chosen) < shots:
        raise ValueError(f"{source.name} has only {len(chosen)} worked training problems for shots {shots}")
    return FewShot(agent, chosen)
