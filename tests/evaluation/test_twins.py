"""The memorization gap is the planted one: of a solver that memorized the problems, and of one that
did not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from evaluation.one_by_one import run

from slm_math.agents import SingleShot
from slm_math.engines.planted import PlantedSolver
from slm_math.evaluation.twins import gap_lines, memorization_gap, read_gap
from slm_math.records.files import read_records
from slm_math.records.record import Record, RecordedImage
from slm_math.types import Problem, Sampling, Task

TASKS = [Task(Problem(f"p/{n}", f"What is {n} + 7?"), str(n + 7)) for n in range(300)]
TWINS = [
    Task(Problem(f"p/{n}~twin", f"What is {n} + 9?", tags={"twin_of": f"p/{n}"}), str(n + 9))
    for n in range(300)
]


class Memorizer(PlantedSolver):
    """Knows the answer to nine of ten problems, and solves other problems as it can."""

    def probability(self, problem: str) -> float:
        return super().probability(problem) if problem.endswith("~twin") else 0.9


def evaluated(folder: Path, solver: PlantedSolver, samples: int = 1) -> list[list[Record]]:
    for name, tasks, own in (("one", TASKS, {}), ("one.twins", TWINS, {"twins": True})):
        options = {"samples": samples, "sampling": {"default": Sampling(1.0)}, "identity": own}
        run(folder / name, solver, SingleShot(), tasks, **options)
    return [read_records(folder / name / "records.jsonl") for name in ("one", "one.twins")]


@pytest.mark.parametrize("samples", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_who_memorized_has_a_gap_of_what_was_planted(tmp_path: Path, samples: int) -> None:
    problems, twins = evaluated(tmp_path, Memorizer([*TASKS, *TWINS], 0.4), samples)
    gap = memorization_gap(problems, twins).comparison
    assert gap.low < 0.9 - 0.4 < gap.high
    assert gap.low > 0.3
    right = [sum(r.correct for r in some) / len(some) for some in (problems, twins)]
    assert gap.difference == pytest.approx(right[0] - right[1])
    assert gap.problems == 300


@pytest.mark.parametrize("samples", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_who_did_not_memorize_has_none(tmp_path: Path, samples: int) -> None:
    problems, twins = evaluated(tmp_path, PlantedSolver([*TASKS, *TWINS], 0.4), samples)
    gap = memorization_gap(problems, twins).comparison
    assert gap.low < 0 < gap.high
    assert gap.high < 0.15


def test_the_gap_is_paired_by_the_problem_of_a_twin(tmp_path: Path) -> None:
    solver = Memorizer([*TASKS, *TWINS], 0.4)
    problems, twins = evaluated(tmp_path, solver)
    gap = memorization_gap(problems, list(reversed(twins)))
    lost = {t.problem.id for t in TASKS if not solver.is_right(t.problem.id, 0)}
    right = {t.problem.tags["twin_of"] for t in TWINS if solver.is_right(t.problem.id, 0)}
    assert set(gap.comparison.lost) == lost & right
    [half] = [memorization_gap(problems, twins[:100])]
    assert (half.comparison.problems, half.untwinned) == (100, 200)
    assert "(without a twin: 200)" in half.shown()


def test_twins_may_show_other_images(tmp_path: Path) -> None:
    problems, twins = evaluated(tmp_path, PlantedSolver([*TASKS, *TWINS], 0.4))
    plain = memorization_gap(problems, twins)
    shown = [
        [replace(one, images=(RecordedImage("a.png", f"{one.id} {side}"),)) for one in some]
        for side, some in (("problem", problems), ("twin", twins))
    ]
    assert memorization_gap(*shown) == plain


def test_folders_side_by_side_are_read(tmp_path: Path) -> None:
    problems, twins = evaluated(tmp_path, Memorizer([*TASKS, *TWINS], 0.4))
    gap = read_gap(tmp_path / "one")
    assert gap == memorization_gap(problems, twins)
    assert read_gap(tmp_path / "one.twins") is None
    [line] = gap_lines({name: tmp_path / name for name in ("one", "one.twins")})
    assert line == f"one: {gap.shown()}"


def test_twins_of_other_problems_are_refused(tmp_path: Path) -> None:
    problems, twins = evaluated(tmp_path, PlantedSolver([*TASKS, *TWINS], 0.4))
    with pytest.raises(ValueError, match="p/9~twin is the twin of no problem"):
        memorization_gap(problems[:9], twins[:10])
