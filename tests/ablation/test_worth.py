"""An ablation says what was planted: the worth of a verifier, and of one that is worth nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ablation.planted import ablated, evaluated, executors, tasks

from slm_math.ablation.arms import Reruns
from slm_math.ablation.rerun import NamedTurn
from slm_math.ablation.worth import worth
from slm_math.agents import SolverVerifier
from slm_math.engines.planted import PlantedPair
from slm_math.metrics.columns import Samples

WORTHLESS = {"accuracy": 0.5, "recognizes": (0.4, 0.6), "repaired": (0.5, 0.5)}
USEFUL = {"accuracy": 0.5, "recognizes": (0.9, 0.9), "repaired": (0.8, 0.4)}


def pair(n: int, planted: dict[str, Any], run: int = 0) -> PlantedPair:
    return PlantedPair(tasks(n), **planted, run=run)


def test_the_planted_worth_is_that_of_the_formula() -> None:
    # right at once and recognized, or sent back and repaired: 0.45 + 0.05 x 0.8 + 0.45 x 0.8
    assert pair(1, USEFUL).ends_right == pytest.approx((0.85, 0.4))
    assert pair(1, WORTHLESS).ends_right == pytest.approx((0.5, 0.5))


def test_a_verifier_is_worth_what_was_planted(tmp_path: Path) -> None:
    engine = pair(150, USEFUL)
    run = evaluated(tmp_path, engine, 150)
    found = ablated(run, engine)["left out"]
    assert found.n == 150
    assert found.low < 0.45 < found.high
    assert found.comparison.accuracy[0] == pytest.approx(0.4, abs=0.13)
    assert found.comparison.difference == pytest.approx(found.difference)


def test_a_verifier_of_no_worth_is_worth_nothing(tmp_path: Path) -> None:
    engine = pair(150, WORTHLESS)
    found = ablated(evaluated(tmp_path, engine, 150), engine)["left out"]
    assert found.low < 0 < found.high
    assert found.comparison.p > 0.05


def test_draws_of_the_verifier_change_as_many_outcomes_as_planted(tmp_path: Path) -> None:
    """A right draft stays right if it is accepted (0.9), else it is repaired with 0.8; a wrong one
    is accepted with 0.1. Another verdict of the same kind leaves all as it was, since the draws
    that follow are the same: right drafts differ if one of two verdicts sends them back, and that
    goes wrong (2 x 0.9 x 0.1 x 0.2), wrong ones likewise if it is repaired (2 x 0.9 x 0.1 x 0.8).
    """
    engine = pair(150, USEFUL)
    run = evaluated(tmp_path, engine, 150)
    found = ablated(run, engine, draws=4)["drawn again"]
    expected = 0.5 * 0.036 + 0.5 * 0.144
    assert found.reruns == 600
    assert found.changed_low < expected < found.changed_high
    assert found.low < 0 < found.high  # a recorded turn is itself a draw


def test_a_redraw_that_says_the_same_ends_the_same(tmp_path: Path) -> None:
    planted = {"accuracy": 0.5, "recognizes": (1.0, 1.0), "repaired": (0.8, 0.4)}
    engine = pair(60, planted)
    found = ablated(evaluated(tmp_path, engine, 60), engine, draws=3)["drawn again"]
    assert found.changed == 0
    assert found.difference == 0


def test_of_several_samples_each_has_its_own_draws(tmp_path: Path) -> None:
    engine = pair(40, USEFUL)
    run = evaluated(tmp_path, engine, 40, samples=3)
    found = ablated(run, engine, draws=2)
    assert found["left out"].n == 120
    assert found["left out"].problems == 40
    assert found["drawn again"].reruns == 240


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "true"), [(USEFUL, 0.45), (WORTHLESS, 0.0)])
def test_intervals_of_the_worth_hold_what_was_planted(
    tmp_path: Path, planted: dict[str, Any], true: float
) -> None:
    """Of 150 evaluations of 40 problems, which are parts of one."""
    size, n = 40, 150
    engine = pair(size * n, planted)
    run = evaluated(tmp_path, engine, size * n)
    reruns = Reruns.of(run, SolverVerifier(rounds=2, runs=0), NamedTurn.of("verifier"))
    arm = reruns.arm(tmp_path / "arm", executors(engine))
    before, after = ({one.id: one for one in each.records} for each in (run.samples, arm))
    held = 0
    for part in range(n):
        ids = [f"p/{i}" for i in range(part * size, (part + 1) * size)]
        some = [Samples.of([each[id] for id in ids]) for each in (before, after)]
        found = worth("run", some[0], "arm", some[1], reached=[(id, 0) for id in ids])
        held += found.low <= true <= found.high
    # of 95 %: fewer than 135 with a probability of 0.4 %, more than 149 with one of 0.4 %
    assert 135 <= held <= 149
