"""Few-shot prompting: worked examples from a training split before an agent's requests."""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.agents import Agent, FewShot
from slm_math.data.base import Source, read_tasks
from slm_math.data.identity import image_hashes
from slm_math.data.overlap import near_exact
from slm_math.data.selection import sample_tasks
from slm_math.types import Task


def with_shots(
    agent: Agent, shots: int, source: Source, tasks: Sequence[Task], seed: int = 0
) -> Agent:
    """The agent with `shots` worked examples from the source's training split, none of which is in
    `tasks`, or shows an image that one of these shows.

    Raises ValueError if there are not enough.
    """
    if shots < 0:
        raise ValueError(f"shots must be 0 or more, got {shots}")
    if not shots:
        return agent
    try:
        worked = [task for task in read_tasks(source, "train", graded=False) if task.solution]
    except ValueError as error:
        raise ValueError(f"{error}: choose another shots_source") from error
    # `near_exact` finds only the closest problem to each; its copies are found in the next round
    while overlapping := set(
        near_exact([t.problem for t in worked], [t.problem for t in tasks]).values()
    ):
        worked = [task for index, task in enumerate(worked) if index not in overlapping]
    shown = _images(tasks)  # whatever is asked about them
    worked = [task for task in worked if not shown & _images([task])]
    chosen = sample_tasks(worked, shots, seed)
    if len(chosen) < shots:
        raise ValueError(
            f"{source.name} has only {len(chosen)} worked training problems, but shots is {shots}"
        )
    return FewShot(agent, chosen)


def _images(tasks: Sequence[Task]) -> set[str]:
    """The images of problems, by their content."""
    return {hashed for task in tasks for hashed in image_hashes(task.problem)}
