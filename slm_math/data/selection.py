"""Which problems of a split are used: by their tags, in which order, and how many."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from slm_math.data.base import Source, Split, read_tasks
from slm_math.data.golds import is_number
from slm_math.data.tags import read_tags
from slm_math.types import Chat, Task


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
    measured: Collection[str] = (),
) -> list[Task]:
    """The tasks that `where` allows (`tasks_where`), in an order shuffled by the seed `shuffle`, or
    unshuffled.

    `limit` keeps the first tasks of a shuffled order (of drafts to judge the first right and the
    first wrong ones), and otherwise a random sample (`sample_tasks`).
    """
    selected = tasks_where(tasks, where or {}, measured)
    if shuffle is None:
        return sample_tasks(selected, limit)
    order = _order(selected, random.Random(f"shuffle {shuffle}"))
    return [selected[i] for i in _first(order, selected, limit)]


def tasks_where(
    tasks: list[Task], where: Mapping[str, Any], measured: Collection[str] = ()
) -> list[Task]:
    """The tasks with the tags that `where` names: tag -> a value or a list of values. Of the
    `measured` tags it names the range: pass_rate -> [0.1, 0.9], both ends included.

    A task without a tag that is named is left out. Raises ValueError for a tag, or a value of a
    tag, that no task has, and for a range that is none.
    """
    selected = tasks
    for tag, wanted in where.items():
        if tag in measured:
            low, high = _range(tag, wanted)
            selected = [
                task
                for task in selected
                if tag in task.problem.tags and low <= float(task.problem.tags[tag]) <= high
            ]
            continue
        values = set(map(str, wanted if isinstance(wanted, list | tuple) else [wanted]))
        known = {task.problem.tags[tag] for task in tasks if tag in task.problem.tags}
        if not values <= known:
            existing = f"its values are {', '.join(sorted(known))}"
            raise ValueError(
                f"where names {tag} {', '.join(sorted(values - known))}; "
                + (existing if known else "no problem has such a tag")
            )
        selected = [task for task in selected if task.problem.tags.get(tag) in values]
    return selected


def _range(tag: str, wanted: Any) -> tuple[float, float]:
    is_pair = isinstance(wanted, list | tuple) and len(wanted) == 2
    if not is_pair or not all(is_number(value) for value in wanted) or wanted[0] > wanted[1]:
        raise ValueError(
            f"where names {tag} {wanted}; it was measured, so it takes a range, lowest and highest "
            "value, such as [0.1, 0.9]"
        )
    return wanted[0], wanted[1]


class Selected(Source):
    """A data set of which only some problems are trained on: those with the tags that `where` names
    (`tasks_where`), with the measured tags of a file beside their own. Held-out splits stay whole.

    Raises ValueError where the demonstrations of a data set are not the worked solutions of its
    problems, so that nothing says which problem one belongs to.
    """

    def __init__(
        self, source: Source, tags: str | None = None, where: Mapping[str, Any] | None = None
    ) -> None:
        self.source, self.where = source, dict(where or {})
        self.name, self.weights = source.name, source.weights
        self.tags = None if tags is None else read_tags(tags)
        self._tasks: dict[Split, list[Task]] = {}

    def tasks(self, split: Split) -> list[Task]:
        if split not in self._tasks:
            self._tasks[split] = self._selected(split)
        return self._tasks[split]

    def _selected(self, split: Split) -> list[Task]:
        tasks = read_tasks(self.source, split, graded=False)
        if split != "train":
            return tasks
        if self.tags is not None:
            tasks = self.tags.put(tasks)
        return tasks_where(tasks, self.where, self.measured)

    @property
    def measured(self) -> list[str]:
        """The names of the tags that come from the file."""
        return [] if self.tags is None else self.tags.names

    def parts(self) -> dict[str, Source]:
        return {name: SelectedPart(self, part) for name, part in self.source.parts().items()}

    def answers_problems(self) -> bool:
        return self.source.answers_problems()

    def dialogues(self, split: Split, prompt: str = "solve") -> list[Chat]:
        if parts := self.parts():
            return [chat for part in parts.values() for chat in part.dialogues(split, prompt)]
        if not self.answers_problems():
            raise ValueError(
                f"data.where and data.tags choose problems, and {self.name} has dialogues of its "
                "own, which name none: choose the rows in its file"
            )
        return super().dialogues(split, prompt)

    def untagged(self, split: Split) -> int:
        """The number of problems without a tag of the file."""
        if self.tags is None or split != "train":
            return 0
        tasks = read_tasks(self.source, split, graded=False)
        return sum(not self.tags.of(task.problem) for task in tasks)


class SelectedPart(Selected):
    """What a selection among the problems of several data sets leaves of one of them."""

    def __init__(self, whole: Selected, part: Source) -> None:
        super().__init__(part)
        self.whole = whole

    def _selected(self, split: Split) -> list[Task]:
        own = {task.problem.id for task in read_tasks(self.source, split, graded=False)}
        return [task for task in self.whole.tasks(split) if task.problem.id in own]
