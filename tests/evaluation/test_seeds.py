"""Comparisons over seeds: against scipy and statsmodels, and how often their intervals hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.test_compare import several, with_partial_units
from evaluation.test_compare_runs import rows, write

from slm_math.evaluation.compare_table import compare_runs
from slm_math.evaluation.seeds import SeedComparison, compare_seeds, compared, pairs_of
from slm_math.records.record import TurnEvent

TABLE = np.array([[0.0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 1, 0], [0, 1, -1, 1, 1, 0.5]])


def of_table(table: np.ndarray) -> SeedComparison:
    pairs: list[Any] = [((f"a{s}", []), (f"b{s}", [])) for s in range(len(table))]
    return compared(table, table.shape[1], pairs)


def test_intervals_are_those_of_scipy() -> None:
    # scipy.stats.t.interval of the means of rows and of columns, ttest_1samp of the means of rows
    one = of_table(TABLE)
    assert one.difference == pytest.approx(0.4722222222222222)
    assert one.over_seeds == pytest.approx((0.35270409084029275, 0.5917403536041517))
    # (-0.0743879904362818, 1.0188324348807264) without the two partial problems
    ends = with_partial_units(one.difference, 0.2126406578778293, 6, 2.5705818)
    assert one.over_problems == pytest.approx(ends, abs=1e-6)
    assert one.p == pytest.approx(0.0034423510070664123)


def test_the_interval_over_both_adds_the_mean_squares_of_statsmodels() -> None:
    # anova_lm: seeds 0.013889 (2), problems 0.813889 (5), residual 0.213889 (10); problems alone
    # are more than the sum without the residual. Satterthwaite: 4.8 degrees; t of 4 is 2.776445
    alone = 0.813889 * 5 / 3  # the sum of squares of the means of problems, to which come two more
    square = 3 * (alone + 0.1 * (1 - 0.4722222) ** 2 + 0.1 * (1 + 0.4722222) ** 2) / 5.2
    half = 2.776445 * np.sqrt(square / 18)
    low, high = of_table(TABLE).over_both
    assert (low, high) == pytest.approx((0.4722222 - half, 1.0), abs=1e-5)


def test_intervals_over_both_hold_for_other_seeds_and_problems() -> None:
    rng = np.random.default_rng(0)
    held = weights_only = 0
    for _ in range(1000):
        table = (
            0.05
            + rng.normal(0, 0.05, (5, 1))
            + rng.normal(0, 0.3, (1, 60))
            + rng.normal(0, 0.4, (5, 60))
        )
        one = of_table(table)
        held += one.over_both[0] <= 0.05 <= one.over_both[1]
        weights_only += one.over_problems[0] <= 0.05 <= one.over_problems[1]
    assert held >= 940
    assert weights_only < 920  # which says nothing about other seeds


def test_runs_are_paired_by_their_place_in_both_halves() -> None:
    runs = {name: several(marks, "1") for name, marks in zip("abcd", ("0", "0", "1", "0"))}
    pairs = pairs_of(runs, dict.fromkeys(runs))
    assert [(a[0], b[0]) for a, b in pairs] == [("a", "c"), ("b", "d")]
    assert compare_seeds(pairs).differences == (0.5, 0.0)


def test_seeds_that_change_nothing_say_nothing_of_other_seeds() -> None:
    """Greedy decoding of the same weights under other seeds: an interval would have no width."""
    runs = {name: several(marks, "1") for name, marks in zip("abcd", ("01", "01", "11", "11"))}
    with pytest.raises(ValueError, match="all 2 seeds give the same difference on each of 2 prob"):
        compare_seeds(pairs_of(runs, dict.fromkeys(runs)))


@pytest.mark.parametrize(
    ("marks", "same"),
    [
        (("00", "10", "01", "11", "11", "10"), "d and e"),
        (("00", "10", "00", "11", "01", "10"), "a and c"),
        (("00", "00", "00", "11", "01", "10"), None),  # a model that no seed has trained
    ],
)
def test_a_run_under_two_of_three_seeds_is_refused(
    marks: tuple[str, ...], same: str | None
) -> None:
    runs = {name: several(mark, "1") for name, mark in zip("abcdef", marks)}
    pairs = pairs_of(runs, dict.fromkeys(runs))
    if same is None:
        assert compare_seeds(pairs).problems == 2
    else:
        with pytest.raises(ValueError, match=f"{same} have the same replies in every sample"):
            compare_seeds(pairs)


def test_runs_of_equal_answers_and_other_replies_are_several() -> None:
    """Both of two seeds may solve everything."""
    runs = {
        name: [replace(one, events=(TurnEvent(reply=name),)) for one in several(mark, mark)]
        for name, mark in zip("abcdef", "010111")
    }
    assert compare_seeds(pairs_of(runs, dict.fromkeys(runs))).differences == (1.0, 0.0, 1.0)


def test_halves_in_another_order_of_seeds_are_refused() -> None:
    runs: dict[str, Any] = {key: [] for key in "abcd"}
    with pytest.raises(ValueError, match="a has seed 0 and c has seed 1: name the runs of"):
        pairs_of(runs, {"a": 0, "b": 1, "c": 1, "d": 0})


def test_runs_by_turns_are_no_halves() -> None:
    """Baseline and method of the first seed, then of the second."""
    runs: dict[str, Any] = {key: [] for key in "abcd"}
    with pytest.raises(ValueError, match="name the runs of the baseline first"):
        pairs_of(runs, {"a": 0, "b": 0, "c": 1, "d": 1})


@pytest.mark.parametrize("n", [2, 5])
def test_other_than_pairs_of_two_seeds_are_refused(n: int) -> None:
    runs: dict[str, Any] = {str(key): [] for key in range(n)}
    with pytest.raises(ValueError, match=f"at least four, got {n}"):
        pairs_of(runs, dict.fromkeys(runs, 0))


def test_the_command_says_what_is_about_the_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = {
        "a/0": "1100",
        "a/1": "1000",
        "a/2": "0110",
        "b/0": "1110",
        "b/1": "1100",
        "b/2": "1111",
    }
    folders = [write(tmp_path / name, rows(of * 10)) for name, of in marks.items()]
    compare_runs(folders, out=str(tmp_path / "out.json"), over="seeds")
    out = capsys.readouterr().out
    assert "the method on these problems (other seeds): +33.3 [-2.5, 69.2] points, 3 seeds" in out
    assert "3 seeds say little about other seeds: their interval is wide" in out
    [written] = json.loads((tmp_path / "out.json").read_text())["over_seeds"]
    assert written["differences"] == pytest.approx([0.25, 0.25, 0.5])
