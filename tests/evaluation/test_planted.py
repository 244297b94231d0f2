"""What evaluations and comparisons find of solvers is what was planted in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from evaluation.one_by_one import run

from slm_math.agents import MajorityVote, SingleShot
from slm_math.engines.planted import PlantedSolver
from slm_math.evaluation.compare import compare
from slm_math.metrics.intervals import clustered, interval, wilson
from slm_math.metrics.summary import summarize
from slm_math.records.files import read_records
from slm_math.records.record import Record
from slm_math.types import Problem, Sampling, Task

TASKS = [Task(Problem(f"p/{n}", f"What is {n} + 7?"), str(n + 7)) for n in range(150)]


def evaluated(folder: Path, solver: PlantedSolver, samples: int = 1) -> list[Record]:
    run(folder, solver, SingleShot(), TASKS, samples=samples, sampling={"default": Sampling(1.0)})
    return read_records(folder / "records.jsonl")


def test_every_verdict_is_the_planted_one(tmp_path: Path) -> None:
    solver = PlantedSolver(TASKS, accuracy=0.6, concentration=1.0)
    records = evaluated(tmp_path, solver, samples=3)
    assert len(records) == 450
    for record in records:
        assert record.correct == solver.is_right(record.id, record.sample)
        assert record.answer == solver.answer(record.id, record.sample)
    assert summarize(records).accuracy == pytest.approx(
        fmean(solver.is_right(task.problem.id, n) for task in TASKS for n in range(3))
    )


def test_a_vote_is_that_of_the_planted_answers(tmp_path: Path) -> None:
    solver = PlantedSolver(TASKS, accuracy=0.5, concentration=3.0)
    run(tmp_path, solver, MajorityVote(k=5), TASKS, sampling={"default": Sampling(1.0)})
    for record in read_records(tmp_path / "records.jsonl"):
        answers = [solver.answer(record.id, 0, turn + 1) for turn in range(5)]
        assert record.answer == Counter(answers).most_common(1)[0][0]  # the first of equal ones


def test_a_comparison_finds_the_problems_that_were_planted(tmp_path: Path) -> None:
    solvers = {
        name: PlantedSolver(TASKS, accuracy=accuracy, concentration=1.0, run=n, alike=0.8)
        for n, (name, accuracy) in enumerate({"a": 0.5, "b": 0.7}.items())
    }
    runs = {name: evaluated(tmp_path / name, solver) for name, solver in solvers.items()}
    [found] = compare(runs)
    right = {
        name: {task.problem.id for task in TASKS if solver.is_right(task.problem.id, 0)}
        for name, solver in solvers.items()
    }
    assert set(found.gained) == right["b"] - right["a"]
    assert set(found.lost) == right["a"] - right["b"]
    assert found.difference == pytest.approx((len(right["b"]) - len(right["a"])) / 150)
    assert found.low < found.difference < found.high


def test_probabilities_are_those_that_were_asked_for() -> None:
    tasks = [Task(Problem(f"p/{n}", ""), "1") for n in range(4000)]
    solver = PlantedSolver(tasks, accuracy=0.3, concentration=2.0)
    chances = np.array([solver.probability(task.problem.id) for task in tasks])
    assert chances.mean() == pytest.approx(0.3, abs=0.015)
    assert chances.var() == pytest.approx(0.3 * 0.7 / 3, rel=0.1)  # of a beta distribution


def test_runs_have_the_luck_in_common_that_was_asked_for() -> None:
    def answers(run: int, alike: float) -> np.ndarray:
        solver = PlantedSolver(TASKS, accuracy=0.3, run=run, alike=alike)
        return np.array([solver.answer(task.problem.id, n) for task in TASKS for n in range(20)])

    chance = (answers(0, 0.0) == answers(1, 0.0)).mean()
    same = (answers(0, 0.5) == answers(1, 0.5)).mean()
    assert same == pytest.approx(0.5 + 0.5 * chance, abs=0.03)
    assert (answers(0, 1.0) == answers(1, 1.0)).all()


@pytest.mark.parametrize("refused", [{"accuracy": 0.0}, {"accuracy": 1.0}, {"concentration": 0.0}])
def test_solvers_that_cannot_be_drawn_are_refused(refused: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(refused))):
        PlantedSolver(TASKS, **({"accuracy": 0.5} | refused))


# coverage, in the settings in which intervals are hardest; scripts/truth.py has all of them


@pytest.mark.parametrize(
    ("n", "p", "concentration", "samples"),
    [(30, 0.02, 0.3, 16), (30, 0.9, 2.0, 4), (100, 0.5, 2.0, 4), (300, 0.98, 0.3, 16)],
)
def test_intervals_hold_the_truth(n: int, p: float, concentration: float, samples: int) -> None:
    draw = np.random.default_rng(0)
    chances = draw.beta(p * concentration, (1 - p) * concentration, (2000, n))
    shares = draw.binomial(samples, chances) / samples
    hits = 0
    for row in shares:
        distinct, counts = np.unique(row, return_counts=True)
        low, high = interval(distinct.tolist(), samples * n, counts.tolist())
        hits += low <= p <= high
    assert hits / 2000 > 0.93


def test_few_problems_that_say_all_are_not_believed() -> None:
    """Of 30 problems one is solved, in 8 of 16 samples."""
    _, high = clustered([0.0, 0.5], [29, 1])
    assert high > 0.07
    assert high < wilson(1, 30)[1]
