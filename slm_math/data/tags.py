"""Tags that were measured: what an evaluation found out about problems, put onto them.

A line of a tag file, as `slm-math tag` writes it; every number is a tag:

    {"id": "gsm8k/train/12", "key": "5f3c...", "pass_rate": 0.25, "n": 8}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slm_math.data.attempts import problem_of
from slm_math.data.files import FileRow, read_rows
from slm_math.data.identity import problem_key
from slm_math.records.record import NOT_KEPT, Record, lost_images
from slm_math.types import Problem, Task

PASS_RATE = "pass_rate"


@dataclass(frozen=True)
class MeasuredTags:
    """The tags of a file: name -> number, by the key of a problem (`problem_key`)."""

    file: Path
    by_key: Mapping[str, Mapping[str, float]]

    @property
    def names(self) -> list[str]:
        return sorted({name for tags in self.by_key.values() for name in tags})

    def of(self, problem: Problem) -> Mapping[str, float]:
        """The tags of a problem, by what it is; {} if it has none."""
        return self.by_key.get(problem_key(problem), {})

    def put(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with the tags of their problems beside their own.

        Raises ValueError if no problem has a tag: the file is of other problems.
        """
        tagged = [self._tagged(task) for task in tasks]
        if tasks and not any(new is not task for new, task in zip(tagged, tasks, strict=True)):
            raise ValueError(
                f"{self.file}: none of the {len(tasks)} problems has a tag; the first is "
                f"{tasks[0].problem.id!r}: tag an evaluation of the same problems"
            )
        return tagged

    def _tagged(self, task: Task) -> Task:
        own = self.of(task.problem)
        if not own:
            return task
        texts = {name: repr(value) for name, value in own.items()}
        return replace(task, problem=replace(task.problem, tags={**task.problem.tags, **texts}))


def read_tags(file: str | Path) -> MeasuredTags:
    """The tags of a file. Raises ValueError that names the file and the line of a malformed row."""
    path = Path(file).expanduser()
    by_key: dict[str, dict[str, float]] = {}
    for row in read_rows(path):
        tags = dict(_numbers(row))
        by_key[row.text("key")] = tags
    if not by_key:
        raise ValueError(f"{path}: holds no tags")
    return MeasuredTags(path, by_key)


def _numbers(row: FileRow) -> Iterator[tuple[str, float]]:
    for name, value in row.fields.items():
        if name in ("id", "key"):
            continue
        if not row.is_number(name) or not math.isfinite(value):
            raise row.error(name, f"must be a number, got {value!r:.40}")
        if name == PASS_RATE and not 0 <= value <= 1:
            raise row.error(name, f"must be between 0 and 1, got {value}")
        yield name, value


def tag_lines(records: Iterable[Record]) -> list[str]:
    """The lines of a tag file: how often each problem was solved. Samples that broke, and those of
    problems that did not fit into the context, are not counted. Raises ValueError for records that
    do not keep the images of their problems.
    """
    solved: dict[str, list[bool]] = {}
    ids: dict[str, str] = {}
    for record in records:
        if record.broken or record.skipped:
            continue
        if lost_images(record):
            raise ValueError(f"problem {record.id} {NOT_KEPT}")
        key = problem_key(problem_of(record), [image.hash for image in record.images])
        ids.setdefault(key, record.id)
        solved.setdefault(key, []).append(record.correct)
    return [
        json.dumps(
            {
                "id": ids[key],
                "key": key,
                PASS_RATE: round(sum(some) / len(some), 6),
                "n": len(some),
                "k": sum(some),
            }
        )
        for key, some in solved.items()
    ]


def pass_rates(tasks: Sequence[Task]) -> list[float | None]:
    """The tag `pass_rate` of each task; None for those without."""
    values = [task.problem.tags.get(PASS_RATE) for task in tasks]
    return [None if value is None else float(value) for value in values]


def variances(rates: Sequence[float | None]) -> list[float]:
    """p (1 - p) for each pass rate p: the variance of a reward of 0 or 1, which is what a group of
    samples learns from (the learnability of Rutherford et al. 2024, "No Regrets", equation 3).
    Problems without a pass rate get the mean of the others.
    """
    return filled([None if rate is None else rate * (1 - rate) for rate in rates])


def filled(values: Sequence[float | None]) -> list[float]:
    """The pass rates, or what was made of them, with their mean where one is missing.

    Raises ValueError if there is none.
    """
    present = [value for value in values if value is not None]
    if not present:
        raise ValueError(
            f"no problem has a {PASS_RATE}: measure it with slm-math eval and slm-math tag, and "
            "name the file with tags"
        )
    mean = sum(present) / len(present)
    return [mean if value is None else value for value in values]
