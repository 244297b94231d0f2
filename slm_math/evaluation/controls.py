"""What of a training run's gain is left when its control arms are subtracted.

Run and arms begin with the same weights, so that the gain minus the control is the difference of
their accuracies at the same step: it is paired by problem, and needs no third evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.evaluation.clusters import clustered
from slm_math.evaluation.compare import Comparison, adjusted, compare, shown_p
from slm_math.evaluation.plain import print_line
from slm_math.evaluation.runs import FinishedEvaluation, check_grader, read_finished
from slm_math.records.eval_folders import (
    BESIDE,
    control_arms,
    evaluation_folders,
    of_one_run,
    training_stages,
)
from slm_math.records.files import read_manifest

START = "start"  # the evaluation before training


@dataclass(frozen=True)
class ArmEffect:
    """A run against one of its control arms, by one agent's evaluation at `stage`, after so many
    `batches`: `comparison` has the arm as its baseline, so that its difference is the gain minus
    the control. `gain` and `control` are those of run and arm since the start, if it was evaluated.
    """

    agent: str
    arm: str
    stage: str
    batches: int | None
    comparison: Comparison
    gain: Comparison | None = None
    control: Comparison | None = None

    def lines(self) -> list[str]:
        """In per cent: `single_shot, gain minus random_reward: +10.0 [7.4, 12.5], p < 0.001, n =
        900`, and below it both gains.
        """
        one, p = self.comparison, shown_p(self.comparison.p_adjusted)
        if self.gain is not None and self.control is not None:
            gain, control = (each.shown_difference() for each in (self.gain, self.control))
            parts = f"gain {gain}, control {control}"
        else:
            control, run = (f"{100 * share:.1f} %" for share in one.accuracy)
            parts = f"accuracy {run}, control {control}"
        batches = "" if self.batches is None else f", after {self.batches} batches"
        return [
            f"{self.agent}, gain minus {self.arm}: {one.shown_difference()}, p "
            f"{p if p.startswith('<') else f'= {p}'}, n = {one.problems}",
            f"  ({parts}{batches})",
        ]


@dataclass(frozen=True)
class Arms:
    """The effects of a run's arms, p-values corrected for their number, and why others are not
    compared.
    """

    effects: tuple[ArmEffect, ...]
    notes: tuple[str, ...] = ()


def read_arms(root: Path, cluster: str | None = None) -> Arms:
    """The arms of a training run, each compared at the last evaluation that both made after equally
    many batches of training; `cluster` as in `clustered`.
    """
    effects: list[ArmEffect] = []
    notes: list[str] = []
    run = _stages(root)
    for arm, folder in control_arms(root).items():
        own = _stages(folder)
        shared = [name for name in own if name != START and name in run]
        same = [name for name in shared if _batches(own[name]) == _batches(run[name])]
        if not same:
            notes.append(f"{arm} and the run have no evaluation after equally many batches yet")
        for agent in evaluation_folders(own[same[-1]]) if same else ():
            if agent.endswith(BESIDE) or not (run[same[-1]] / agent).is_dir():
                continue
            try:
                effects.append(
                    _effect(agent, arm, run=run, own=own, stage=same[-1], cluster=cluster)
                )
            except ValueError as error:
                notes.append(f"{arm}, {agent}: {error}")
    corrected = adjusted([effect.comparison for effect in effects])
    return Arms(tuple(replace(e, comparison=c) for e, c in zip(effects, corrected)), tuple(notes))


def _stages(root: Path) -> dict[str, Path]:
    """The evaluations of a run while it trained, by name, in order."""
    stages = training_stages(root)
    mine = of_one_run(root, stages)[0] if stages else []
    names = ("validate", "test", "predict")
    return {path.name: path for path in mine if path.name not in names}


def _batches(stage: Path) -> Any:
    """The batches that were trained on before an evaluation, as its manifests say."""
    agents = evaluation_folders(stage).values()
    return [read_manifest(folder).get("about", {}).get("batches") for folder in agents][:1]


def _effect(
    agent: str,
    arm: str,
    *,
    run: Mapping[str, Path],
    own: Mapping[str, Path],
    stage: str,
    cluster: str | None,
) -> ArmEffect:
    """Raises ValueError for evaluations that cannot be compared."""

    def read(stages: Mapping[str, Path], stage: str) -> FinishedEvaluation:
        found = read_finished(str(stages[stage] / agent), stages[stage] / agent)
        return replace(found, samples=clustered(found.samples, cluster))

    mine, control = read(run, stage), read(own, stage)
    check_grader([mine, control])
    [found] = compare({arm: control.samples, "run": mine.samples})
    effect = ArmEffect(agent, arm, stage, *_batches(run[stage]), comparison=found)
    if START not in run:
        return effect
    before = read(run, START).samples
    gains = [compare({START: before, "now": one.samples})[0] for one in (mine, control)]
    return replace(effect, gain=gains[0], control=gains[1])


def arm_lines(root: Path, cluster: str | None = None) -> Iterable[str]:
    """Two lines for every arm of a run and every agent; none for a run without arms."""
    arms = read_arms(root, cluster)
    yield from (line for effect in arms.effects for line in effect.lines())
    yield from (f"not compared: {note}" for note in arms.notes)


def print_arms(root: Path) -> None:
    """Prints what the arms of a run say of its gain."""
    console = Console()
    for line in arm_lines(root):
        print_line(console, line)
