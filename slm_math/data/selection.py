"""Which problems of a split are used: by their tags, in which order, and how many."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from slm_math.types import Task


def sample_tasks(tasks: list[Task], limit: int | None, seed: int = 0) -> list[Task]:
    """A random sample of `limit` tasks, decided by `seed`, in the order of `tasks`; all of them if
    `limit` is None or not smaller than their number.
    """
    if limit is None or limit >= len(tasks):
        return tasks
    indices = sorted(random.Random(f"take {seed}").sample(range(len(tasks)), limit))
    return [tasks[i] for i in indices]


def select_problems(
    tasks: list[Task],
    where: Mapping[str, Any] | None = None,
    shuffle: int | None = None,
    limit: int | None = None,
) -> list[Task]:
    """The tasks with the tags that `where` names (tag -> a value or a list of values), in an order
    shuffled by the seed `shuffle`, or unshuffled.

    `limit` keeps the first tasks of a shuffled order, and otherwise a random sample
    (`sample_tasks`). Raises ValueError for a tag, or a value of a tag, that no task has.
    """
    selected = tasks
    for tag, wanted in (where or {}).items():
        values = set(map(str, wanted if isinstance(wanted, list | tuple) else [wanted]))
        known = {task.problem.tags[tag] for task in tasks if tag in task.problem.tags}
        if not values <= known:
            existing = f"its values are {', '.join(sorted(known))}"
            raise ValueError(
                f"where names {tag} {', '.join(sorted(values - known))}; "
                + (existing if known else "no problem has such a tag")
            )
        selected = [task for task in selected if task.problem.tags.get(tag) in values]
    if shuffle is None:
        return sample_tasks(selected, limit)
    return random.Random(f"shuffle {shuffle}").sample(selected, len(selected))[:limit]
