"""Parts of truth.py: the worth of a turn, whose evaluations are drawn from the planted pair.

Some of them run through agents, scheduler, grader, records and comparison; how often they end
right, with and without the verifier, has to be what the draws of the others are made of.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from covering import LARGE, PROBLEMS, Coverage, counted, measured, probabilities
from covering_pairs import of_cells

from slm_math.ablation.arms import Reruns
from slm_math.ablation.rerun import NamedTurn
from slm_math.agents import SolverVerifier
from slm_math.engines.planted import PlantedPair
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.evaluation.runs import read_finished
from slm_math.metrics.intervals import pooled
from slm_math.rollout.executors import Executors
from slm_math.types import Problem, Sampling, Task

RUN = 4_000  # problems that run through everything
VERIFIERS: dict[str, dict[str, Any]] = {
    "of much worth": {"accuracy": 0.5, "recognizes": (0.9, 0.9), "repaired": (0.8, 0.4)},
    "of little worth": {"accuracy": 0.6, "recognizes": (0.8, 0.5), "repaired": (0.4, 0.5)},
    "of no worth": {"accuracy": 0.5, "recognizes": (0.4, 0.6), "repaired": (0.5, 0.5)},
}
# which turn is left out: the verdict, or the draft after it, without which the first one stays
TURNS = ("verifier", "solver:2")
SHAPES = ((1, float("inf")), (5, 2.0))  # samples, and a + b of the problems' probabilities


class NoPrograms:
    """A sandbox in which nothing runs."""

    busy = 0

    def identity(self) -> dict[str, str]:
        return {}

    def submit(self, request: Any) -> int:
        raise AssertionError("the verifier runs no programs")

    def poll(self, timeout: float = 0.0) -> list[Any]:
        return []

    def cancel(self, ticket: int) -> None: ...


def outcomes(
    planted: dict[str, Any], turn: str, size: tuple[int, ...], spread: float, draw: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right as recorded, right without the turn, and whether a workflow has it, of the planted pair
    (size: .., n, samples). The draft after a verdict has the same luck with and without it.
    """
    (right, wrong), pair = planted["recognizes"], planted["repaired"]
    means = (planted["accuracy"], *pair)
    own = [probabilities(p, spread, (*size[:-1], 1), draw) for p in means]
    luck = draw.random((3, *size))
    draft, (told, untold) = luck[0] < own[0], (luck[2] < chance for chance in own[1:])
    rejected = luck[1] < np.where(draft, 1 - right, wrong)
    recorded = np.where(rejected, told, draft)
    if turn == "verifier":
        return recorded, untold, np.ones(size, bool)
    return recorded, draft, rejected


def worths(draws: int) -> Iterator[Coverage]:
    """The worth of a turn in all workflows and in those that have it, and how many end otherwise
    without it.
    """
    draw = np.random.default_rng(22)
    for name, planted in VERIFIERS.items():
        _check(name, planted)
        for turn in TURNS:
            for samples, spread in SHAPES:
                size = (LARGE, samples)
                recorded, without, there = outcomes(planted, turn, size, spread, draw)
                changes = recorded.astype(int) - without
                # what a problem may show, and its chance: gain, workflows with the turn, changed
                kinds, times = np.unique(
                    np.stack([changes.sum(1), there.sum(1), abs(changes).sum(1)], 1),
                    axis=0,
                    return_counts=True,
                )
                gains, reached, changed = kinds.T.astype(float)
                chances = times / LARGE
                p = float(recorded.mean())
                for n in PROBLEMS:
                    setting = f"n {n}, p {p:.2f}, {samples} samples, {turn} {name}"
                    one = np.ones(len(gains))
                    every = counted(gains / samples, one, chances, n, draws=draws, draw=draw)
                    if samples == 1:
                        shares = (float(chances[gains > 0].sum()), float(chances[gains < 0].sum()))
                        every = of_cells(*shares, n, draws=draws, draw=draw)
                    truth = float(changes.mean())
                    yield measured("turn: worth", setting, truth, every)
                    some = counted(gains, reached, chances, n, draws=draws, draw=draw)
                    truth = float(changes.sum() / there.sum())
                    yield measured("turn: worth where it is", setting, truth, some)
                    if n > 300:
                        continue  # its interval is one of lists, which take long
                    others = _changed(changed, reached, chances, n, draws=draws, draw=draw)
                    truth = float(abs(changes).sum() / there.sum())
                    yield measured("turn: end otherwise", setting, truth, others)


def _changed(
    changed: np.ndarray, reached: np.ndarray, chances: np.ndarray, n: int, *, draws: int, draw: Any
) -> Iterator[tuple[float, float]]:
    kinds = np.arange(len(chances))
    for counts in draw.multinomial(n, chances, draws):
        own = np.repeat(kinds, counts)
        own = own[reached[own] > 0]
        if len(own):
            yield pooled(changed[own].tolist(), reached[own].tolist())


def _check(name: str, planted: dict[str, Any]) -> None:
    """Raises AssertionError unless what runs through the pipeline ends as planted: in each of four
    ways, within four standard errors.
    """
    tasks = [Task(Problem(f"p/{i}", f"What is {i} + 7?"), str(i + 7)) for i in range(RUN)]
    engine, agent = PlantedPair(tasks, **planted), SolverVerifier(rounds=2, runs=0)
    with tempfile.TemporaryDirectory() as folder:
        executors = Executors({"default": engine}, {"default": Sampling(1.0)}, NoPrograms())
        evaluate(Plan(agent, tasks, 1), executors, Output(Path(folder) / "run"))
        run = read_finished("run", Path(folder) / "run")
        arm = Reruns.of(run, agent, NamedTurn.of("verifier")).arm(Path(folder) / "a", executors)
        seen = np.zeros((2, 2))
        before, after = ({o.id: o.correct for o in each.records} for each in (run.samples, arm))
        for id in before:
            seen[int(before[id]), int(after[id])] += 1 / RUN
    recorded, without, _ = outcomes(
        planted, "verifier", (4_000_000, 1), float("inf"), np.random.default_rng(0)
    )
    for one in (0, 1):
        for other in (0, 1):
            share = float(((recorded == one) & (without == other)).mean())
            error = np.sqrt(share * (1 - share) / RUN) + 5e-4
            assert abs(seen[one, other] - share) < 4 * error, (name, one, other, seen, share)
