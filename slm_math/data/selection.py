"""Which problems of a split are used: by their tags, in which order, and how many."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from slm_math.types import Task


def sample_tasks(tasks: list[Task], limit: int | None, seed: int = 0) -> list[Task]:
    """A random sample of `limit` tasks, decided by `seed`, in the order of `tasks`; all of them if
    `limit` is None or not smaller than their number.

    Of drafts to judge, it takes as many right as wrong ones, as far as the data has them.
    """
    if limit is None or limit >= len(tasks):
        return tasks
    generator = random.Random(f"take {seed}")
    if _are_drafts(tasks):
        return [tasks[i] for i in sorted(_first(_order(tasks, generator), tasks, limit))]
    return [tasks[i] for i in sorted(generator.sample(range(len(tasks)), limit))]


def _are_drafts(tasks: Sequence[Task]) -> bool:
    return all(task.problem.answer_type == "verdict" for task in tasks)


def _order(tasks: Sequence[Task], generator: random.Random) -> list[int]:
    return generator.sample(range(len(tasks)), len(tasks))


def _first(order: Sequence[int], tasks: Sequence[Task], limit: int | None) -> list[int]:
    """The first indices in an order; of drafts to judge the first ones of either verdict, as many
    as of the other where there are enough.
    """
    if limit is None or limit >= len(order) or not _are_drafts(tasks):
        return list(order[:limit])
    gold = tasks[order[0]].gold
    one = [i for i in order if tasks[i].gold == gold]
    other = [i for i in order if tasks[i].gold != gold]
    half = min(len(one), max(limit - limit // 2, limit - len(other)))
    chosen = {*one[:half], *other[: limit - half]}
    return [i for i in order if i in chosen]


def select_problems(
    tasks: list[Task],
    where: Mapping[str, Any] | None = None,
    shuffle: int | None = None,
    limit: int | None = None,
) -> list[Task]:
    """The tasks with the tags that `where` names (tag -> a value or a list of values), in an order
    shuffled by the seed `shuffle`, or unshuffled.

    `limit` keeps the first tasks of a shuffled order (of drafts to judge the first right and the
    first wrong ones), and otherwise a random sample (`sample_tasks`). Raises ValueError for a tag,
    or a value of a tag, that no task has.
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
    order = _order(selected, random.Random(f"shuffle {shuffle}"))
    return [selected[i] for i in _first(order, selected, limit)]
