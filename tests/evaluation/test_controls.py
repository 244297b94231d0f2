"""Gain minus control, of runs whose evaluations were planted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from evaluation.one_by_one import run

from slm_math.agents import SingleShot
from slm_math.engines.planted import PlantedSolver
from slm_math.evaluation.compare import shown_p
from slm_math.evaluation.controls import arm_lines, read_arms
from slm_math.evaluation.results import results
from slm_math.records.eval_folders import named_runs
from slm_math.report.arms import arms_table
from slm_math.types import Problem, Task

TASKS = [Task(Problem(f"p/{n}", f"What is {n} + 7?"), str(n + 7)) for n in range(200)]


def planted(root: Path, accuracies: dict[str, float], number: int, batches: int = 60) -> dict:
    """A run whose evaluations a solver with these accuracies made; the problems that it solves, by
    evaluation.
    """
    root.mkdir(parents=True, exist_ok=True)
    begun = {"run": str(number), "started": f"2026-01-0{number}T00:00:00Z", "policy": "base"}
    (root / "manifest.json").write_text(json.dumps(begun))
    solved = {}
    for stage, accuracy in accuracies.items():
        # all begin with the same weights
        solver = PlantedSolver(TASKS, accuracy, run=0 if stage == "start" else number)
        about = {"run": str(number), "batches": 0 if stage == "start" else batches}
        folder = root / "eval" / stage / "one"
        own = {"weights": f"{number} {stage}"}
        run(folder, solver, SingleShot(), TASKS, about=about, identity=own)
        solved[stage] = {t.problem.id for t in TASKS if solver.is_right(t.problem.id, 0)}
    return solved


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, dict]:
    root = tmp_path_factory.mktemp("arms") / "run"
    mine = planted(root, {"start": 0.4, "epoch-0": 0.6, "epoch-1": 0.8}, number=1)
    arm = planted(root / "controls" / "random_reward", {"start": 0.4, "epoch-1": 0.5}, number=2)
    return root, mine, arm


def test_gain_minus_control_is_the_paired_difference_of_run_and_arm(trained) -> None:
    root, mine, arm = trained
    [effect] = read_arms(root).effects
    run, control = mine["epoch-1"], arm["epoch-1"]
    assert effect.comparison.difference == pytest.approx((len(run) - len(control)) / 200)
    assert set(effect.comparison.gained) == run - control
    assert set(effect.comparison.lost) == control - run
    assert (effect.agent, effect.arm, effect.stage, effect.batches) == (
        *("one", "random_reward", "epoch-1"),
        60,
    )


def test_gains_are_since_the_start_and_add_up(trained) -> None:
    root, mine, arm = trained
    [effect] = read_arms(root).effects
    assert effect.gain.difference == pytest.approx(
        (len(mine["epoch-1"]) - len(mine["start"])) / 200
    )
    assert effect.control.difference == pytest.approx(
        (len(arm["epoch-1"]) - len(arm["start"])) / 200
    )
    both = effect.gain.difference - effect.control.difference
    assert effect.comparison.difference == pytest.approx(both)
    first, second = arm_lines(root)
    assert first.startswith(f"one, gain minus random_reward: {100 * both:+.1f} [")
    assert f"gain {100 * effect.gain.difference:+.1f} [" in second
    assert second.endswith("after 60 batches)")


def test_an_arm_that_is_shorter_is_compared_at_its_own_end(trained, tmp_path: Path) -> None:
    root, mine, _ = trained
    shutil.copytree(root, tmp_path / "run")
    arm = planted(tmp_path / "run" / "controls" / "format_only", {"epoch-0": 0.5}, number=3)
    effects = {effect.arm: effect for effect in read_arms(tmp_path / "run").effects}
    short = effects["format_only"]
    assert short.stage == "epoch-0"
    assert set(short.comparison.gained) == mine["epoch-0"] - arm["epoch-0"]
    # corrected for both, and said so
    assert short.comparison.p_adjusted >= short.comparison.p
    for effect in effects.values():
        is_labeled = f" (Holm {shown_p(effect.comparison.p_adjusted)}), n = " in effect.lines()[0]
        assert is_labeled == (effect.comparison.p_adjusted != effect.comparison.p)
    assert any("(Holm" in effect.lines()[0] for effect in effects.values())


def test_evaluations_after_other_batches_are_not_compared(trained, tmp_path: Path) -> None:
    root, _, _ = trained
    shutil.copytree(root, tmp_path / "run")
    arm = tmp_path / "run" / "controls" / "format_only"
    planted(arm, {"epoch-1": 0.5}, number=3, batches=59)
    arms = read_arms(tmp_path / "run")
    assert [effect.arm for effect in arms.effects] == ["random_reward"]
    note = "format_only and the run have no evaluation after equally many batches yet"
    assert arms.notes == (note,)
    assert list(arm_lines(tmp_path / "run"))[-1] == f"not compared: {note}"


def test_a_run_is_named_with_its_arms_and_results_subtract_them(trained, capsys) -> None:
    root, _, _ = trained
    assert named_runs(str(root)) == [str(root), str(root / "controls" / "random_reward")]
    results([str(root)])
    out = capsys.readouterr().out
    assert [line for line in arm_lines(root) if line not in out] == []


def test_the_table_of_a_report_has_a_row_for_each_arm(trained) -> None:
    root, _, _ = trained
    arms = read_arms(root)
    [row] = arms_table("run", arms).rows
    assert row[:4] == ("one", "random_reward", "200", "60")
    assert row[6] == arms.effects[0].comparison.shown_difference()


def test_a_run_without_arms_says_nothing_of_them(trained) -> None:
    root, _, _ = trained
    assert list(arm_lines(root / "controls" / "random_reward")) == []
