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
from covering import LARGE, PROBLEMS, Coverage, measured, probabilities

from slm_math.ablation.arms import Reruns
from slm_math.ablation.rerun import NamedTurn
from slm_math.agents import SolverVerifier
from slm_math.engines.planted import PlantedPair
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.evaluation.runs import read_finished
from slm_math.metrics.differences import clustered_interval, paired_interval, spread_interval
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


def truths(planted: dict[str, Any], turn: str) -> tuple[float, float]:
    """The worth of the turn in all workflows, and in those that have it; exact, since the
    probabilities of a problem are independent of each other.
    """
    p, (right, wrong), (told, untold) = (
        planted[name] for name in ("accuracy", "recognizes", "repaired")
    )
    rejected = p * (1 - right) + (1 - p) * wrong
    if turn == "verifier":
        return (worth := p * right + rejected * told - untold), worth
    return rejected * told - p * (1 - right), told - p * (1 - right) / rejected


def worths(draws: int) -> Iterator[Coverage]:
    """The worth of a turn in all workflows and in those that have it, and how many end otherwise
    without it.
    """
    draw = np.random.default_rng(22)
    for name, planted in VERIFIERS.items():
        _check(name, planted)
        for turn in TURNS:
            for samples, spread in SHAPES:
                large = outcomes(planted, turn, (LARGE, samples), spread, draw)
                changed = float((large[0] != large[1])[large[2]].mean())
                every, having = truths(planted, turn)
                p = float(large[0].mean())
                for n in PROBLEMS:
                    found = [
                        _intervals(*outcomes(planted, turn, (n, samples), spread, draw))
                        for _ in range(draws)
                    ]
                    setting = f"n {n}, p {p:.2f}, {samples} samples, {turn} {name}"
                    for place, (what, truth) in enumerate(
                        (("worth", every), ("worth where it is", having), ("changed", changed))
                    ):
                        ends = (one[place] for one in found)
                        yield measured(f"turn: {what}", setting, truth, ends)


def _intervals(
    recorded: np.ndarray, without: np.ndarray, there: np.ndarray
) -> list[tuple[float, float]]:
    """Those that `ablate` prints of one evaluation (n, samples)."""
    n, samples = recorded.shape
    changes = recorded.astype(int) - without
    if samples == 1:
        every = paired_interval(int((changes > 0).sum()), int((changes < 0).sum()), n)
    else:
        every = spread_interval(changes.mean(1).tolist())
    some = [row[has].tolist() for row, has in zip(changes, there, strict=True) if has.any()]
    if not some:
        return [every, (-1.0, 1.0), (0.0, 1.0)]
    having = clustered_interval(some)
    return [every, having, pooled([sum(map(abs, one)) for one in some], list(map(len, some)))]


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
