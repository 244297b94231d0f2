"""The blind control: the same problems with every image replaced by a blank one. What a model still
answers right, it answers from the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slm_math.data.controls import blind
from slm_math.evaluation.clusters import clustered
from slm_math.evaluation.compare import Comparison, compare, shown_p
from slm_math.evaluation.runs import read_beside
from slm_math.metrics.columns import Samples
from slm_math.records.eval_folders import BLIND as BLIND
from slm_math.records.eval_folders import TWINS, beside
from slm_math.records.record import Record
from slm_math.types import Task

# in what the identity of a control differs from that of its evaluation
OWN = ("blank_images", "data", "problems")


def arms(
    tasks: Sequence[Task], blank_images: bool, twins: Sequence[Task] = ()
) -> dict[str, tuple[Sequence[Task], dict[str, Any]]]:
    """What is asked, by the end of the name of its folder: the tasks, with `blank_images` also the
    blind control, and twins of the tasks if there are some; each with what its identity has besides
    its plan.
    """
    asked: dict[str, tuple[Sequence[Task], dict[str, Any]]] = {"": (tasks, {})}
    if blank_images:
        asked[BLIND] = blind_tasks(tasks), {"blank_images": True}
    if twins:
        asked[TWINS] = twins, {"twins": True}
    return asked


def blind_tasks(tasks: Sequence[Task]) -> list[Task]:
    """The tasks whose problems have images, with blank ones of the same sizes instead.

    Raises ValueError if no problem has an image, or if one cannot be read.
    """
    shown = [task for task in tasks if task.problem.images]
    if not shown:
        raise ValueError(
            f"blank_images replaces the images of problems, and none of the {len(tasks)} problems "
            "has one: remove it"
        )
    return [replace(task, problem=blind(task.problem)) for task in shown]


@dataclass(frozen=True)
class BlindControl:
    """A run against its blind control, on the problems with images: `comparison` has the blind run
    as its baseline, so that its difference is what seeing brings. `textual` problems have no image,
    and were not asked again.
    """

    comparison: Comparison
    textual: int

    @property
    def metrics(self) -> dict[str, float]:
        """Under the names that training logs."""
        one = self.comparison
        return {
            "blind_accuracy": one.accuracy[0],
            "seeing_accuracy": one.accuracy[1],
            "seeing_gain": one.difference,
            "seeing_gain_low": one.low,
            "seeing_gain_high": one.high,
            "seeing_gain_p": one.p,
            "seeing_problems": one.problems,
        }

    def shown(self) -> str:
        """In per cent: `60.0 with images, 25.0 blind: +35.0 [20.1, 47.5], p < 0.001, n = 40`."""
        one = self.comparison
        blind, seeing = (100 * share for share in one.accuracy)
        p = shown_p(one.p)
        return (
            f"{seeing:.1f} with images, {blind:.1f} blind: {one.shown_difference()}, "
            f"p {p if p.startswith('<') else f'= {p}'}, n = {one.problems}"
        ) + (f" (not asked again, as they have no images: {self.textual})" if self.textual else "")


def blind_control(
    seeing: Samples | Sequence[Record], unseeing: Samples | Sequence[Record]
) -> BlindControl:
    """A run against its blind control, paired by problem.

    Raises ValueError for runs that are not of the same problems.
    """
    every, control = Samples.of(seeing), Samples.of(unseeing)
    asked = every.also_in(control)
    [comparison] = compare({"blind": control, "seeing": every.where(asked)})
    return BlindControl(comparison, len(np.unique(every.problems[~asked])))


def blind_folder(folder: Path) -> Path:
    """Where the blind control of an agent's evaluation is written: beside it."""
    return beside(folder, BLIND)


def read_control(folder: Path, cluster: str | None = None) -> BlindControl | None:
    """An agent's evaluation against its blind control; None if there is none. `cluster` as in
    `clustered`.

    Raises ValueError if one of them is unfinished, or if they differ in more than their images.
    """
    refusal = (
        "is the control of another evaluation ({} differ): evaluate again with blank_images, or "
        "remove it"
    )
    both = read_beside(folder, BLIND, OWN, refusal)
    return None if both is None else blind_control(*(clustered(one, cluster) for one in both))


def control_lines(folders: Mapping[str, Path], cluster: str | None = None) -> Iterable[str]:
    """A line for every evaluation that has a blind control, by the name of its agent."""
    for name, folder in folders.items():
        try:
            control = read_control(folder, cluster)
        except ValueError as error:
            yield f"{name} is not compared with its blind control: {error}"
        else:
            if control is not None:
                yield f"{name}: {control.shown()}"
