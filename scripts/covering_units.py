"""Parts of truth.py: problems that are instances of templates, and the worth of a turn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from covering import ACCURACIES, SPREADS, Coverage, measured, probabilities

from slm_math.ablation.arms import Reruns
from slm_math.ablation.rerun import NamedTurn
from slm_math.ablation.worth import worth
from slm_math.agents import SolverVerifier
from slm_math.engines.planted import PlantedPair
from slm_math.evaluation.compare import clustered_interval
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.evaluation.runs import read_finished
from slm_math.metrics.columns import Samples
from slm_math.metrics.intervals import pooled
from slm_math.rollout.executors import Executors
from slm_math.types import Problem, Sampling, Task

TEMPLATES = ((20, 5), (20, 50), (100, 5), (100, 50), (100, 0))  # and instances; 0: 1 to 8


def instances(size: int, n: int, draws: int, draw: Any) -> np.ndarray:
    """How many each of n templates has, (draws, n)."""
    return draw.integers(1, 9, (draws, n)) if not size else np.full((draws, n), size)


def templates(draws: int) -> Iterator[Coverage]:
    """The accuracy on instances of templates, which have a probability each."""
    draw = np.random.default_rng(7)
    for n, size in TEMPLATES:
        for p in ACCURACIES:
            for spread in SPREADS[:3]:
                sizes = instances(size, n, draws, draw)
                right = draw.binomial(sizes, probabilities(p, spread, (draws, n), draw))
                ends = (pooled(*each) for each in zip(right.tolist(), sizes.tolist()))
                name = f"n {n}, p {p}, {size or '1 to 8'} instances, spread {spread}"
                yield measured("templates", name, p, ends)


def templates_of_two(draws: int) -> Iterator[Coverage]:
    """The difference of two runs on instances of templates, which differ in how much they gain."""
    draw = np.random.default_rng(8)
    for n, size in ((20, 5), (100, 5), (100, 0)):
        for p in (0.1, 0.5, 0.9):
            for spread in SPREADS[:3]:
                sizes = instances(size, n, draws, draw)
                own = probabilities(p, spread, (draws, n), draw)
                gain = draw.random((draws, n)) * own * (1 - own)
                truth = 0.5 * p * (1 - p) * spread / (spread + 1)
                ends = (
                    clustered_interval(differences(*each, draw))
                    for each in zip(own, own + gain, sizes)
                )
                name = f"n {n}, p {p}, {size or '1 to 8'} instances, spread {spread}"
                yield measured("templates, two runs", name, truth, ends)


def differences(own: np.ndarray, better: np.ndarray, sizes: np.ndarray, draw: Any) -> list[Any]:
    """Those of the instances of each template, with luck of their own in each run."""
    total = int(sizes.sum())
    before = draw.random(total) < np.repeat(own, sizes)
    after = draw.random(total) < np.repeat(better, sizes)
    changes = after.astype(float) - before
    return [some.tolist() for some in np.split(changes, np.cumsum(sizes)[:-1])]


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


VERIFIERS: dict[str, dict[str, Any]] = {
    "of much worth": {"accuracy": 0.5, "recognizes": (0.9, 0.9), "repaired": (0.8, 0.4)},
    "of little worth": {"accuracy": 0.6, "recognizes": (0.8, 0.5), "repaired": (0.4, 0.5)},
    "of no worth": {"accuracy": 0.5, "recognizes": (0.4, 0.6), "repaired": (0.5, 0.5)},
}


def worths(draws: int) -> Iterator[Coverage]:
    """The worth of a verifier, of one evaluation of four times as many problems as there are
    draws, read as many of 40 and of 100 problems.
    """
    draws = 4 * draws
    tasks = [Task(Problem(f"p/{i}", f"What is {i} + 7?"), str(i + 7)) for i in range(draws)]
    agent = SolverVerifier(rounds=2, runs=0)
    for name, planted in VERIFIERS.items():
        engine = PlantedPair(tasks, **planted)
        with_verifier, without = engine.ends_right
        truth = with_verifier - without
        with tempfile.TemporaryDirectory() as folder:
            executors = Executors({"default": engine}, {"default": Sampling(1.0)}, NoPrograms())
            evaluate(Plan(agent, tasks, 1), executors, Output(Path(folder) / "run"))
            run = read_finished("run", Path(folder) / "run")
            arm = Reruns.of(run, agent, NamedTurn.of("verifier")).arm(Path(folder) / "a", executors)
            before, after = ({one.id: one for one in each.records} for each in (run.samples, arm))
        for n in (40, 100):
            parts = [tasks[start : start + n] for start in range(0, draws - n + 1, n)]
            ends = (
                (found.low, found.high)
                for part in parts
                for ids in [[task.problem.id for task in part]]
                for some in [[Samples.of([each[id] for id in ids]) for each in (before, after)]]
                for found in [worth("run", some[0], "a", some[1], [(id, 0) for id in ids])]
            )
            setting = f"n {n}, p {with_verifier:.2f}, {name} ({100 * truth:+.1f} points)"
            yield measured("worth of a turn", setting, truth, ends)
