"""Folders: what a report can be made of, how runs are named, and the course of a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from report.runs import note, record, turn, varied, write

from slm_math.metrics.calibration import binned, winner_shares
from slm_math.metrics.intervals import clustered, pooled
from slm_math.report.accuracy import tag_summaries, tags, training_metric
from slm_math.report.load import Material, load
from slm_math.report.process import confusions, round_points
from slm_math.report.tables import shares_table


def names(*folders: Path) -> list[str]:
    return [run.name for run in load([str(folder) for folder in folders]).runs]


def test_runs_are_named_by_as_much_as_tells_them_apart(tmp_path: Path) -> None:
    for path in ("x/a", "x/b", "y/c", "y/a"):
        write(tmp_path / path, [record(0, True)])
    assert names(tmp_path / "x") == ["a", "b"]
    assert names(tmp_path / "x" / "b", tmp_path / "y" / "c") == ["x/b", "y/c"]  # as in `compare`
    assert names(tmp_path / "x", tmp_path / "y") == ["x/a", "x/b", "y/a", "y/c"]


def test_what_was_set_aside_is_left_out(tmp_path: Path) -> None:
    for path in ("x/a", "x/a.replaced-1", "x/b.2"):
        write(tmp_path / path, [record(0, True)])
    assert names(tmp_path / "x") == ["a", "b.2"]


def test_agents_on_several_data_sets_and_ranks(tmp_path: Path) -> None:
    for path in ("x/gsm/a", "x/math/a", "x/math/b", "x/math/b/rank-0", "x/c", "x/c/rank-1"):
        write(tmp_path / path, [record(0, True)])
    assert names(tmp_path / "x") == ["c", "gsm/a", "math/a", "math/b"]
    (tmp_path / "t" / "eval").mkdir(parents=True)
    (tmp_path / "x").rename(tmp_path / "t" / "eval" / "epoch-0")
    for path in ("gsm/a", "math/a"):
        write(tmp_path / "t" / "eval" / "epoch-1" / path, [record(0, False)])
    material = load([str(tmp_path / "t")])
    assert (
        [run.name for run in material.runs]
        == [curve.name for curve in material.curves]
        == ["gsm/a", "math/a"]
    )


def test_runs_are_put_together_by_their_problems(tmp_path: Path) -> None:
    some, more = [record(i, True) for i in range(3)], [record(i, True) for i in range(5)]
    for name, rows in (("a", some), ("b", more), ("c", some[::-1])):
        write(tmp_path / name, rows)
    write(tmp_path / "d", more[3:], partial=True)
    write(tmp_path / "e", [record(9, True)], partial=True)
    assert [run.data for run in load([str(tmp_path / name) for name in "abcde"]).runs] == [
        0,
        1,
        0,
        1,
        2,
    ]


def test_a_training_run_is_its_last_epoch_and_a_curve(tmp_path: Path) -> None:
    for stage, right in (
        ("start", 1),
        ("epoch-9", 3),
        ("epoch-10", 4),
        ("epoch-2", 2),
        ("test", 0),
        ("step-7", 2),
    ):
        write(tmp_path / "t" / "eval" / stage / "a", [record(i, i < right) for i in range(5)])
    (tmp_path / "t" / "logs" / "version_0").mkdir(parents=True)
    log = "epoch,step,train/reward\n0,0,0.5\n0,,\n0,1,nan\n1,2,0.75\n"
    (tmp_path / "t" / "logs" / "version_0" / "metrics.csv").write_text(log, encoding="utf-8")
    material = load([str(tmp_path / "t")])
    assert [(run.folder.parent.name, run.summary.accuracy) for run in material.runs] == [
        ("epoch-10", 0.8)
    ]
    epochs, steps = material.curves
    assert [(x, s.accuracy) for x, s in epochs.points] == [(0, 0.2), (3, 0.4), (10, 0.6), (11, 0.8)]
    assert [(x, s.accuracy) for x, s in steps.points] == [(0, 0.2), (7, 0.4)]
    assert [(each.metric, each.name) for each in material.training] == [("train/reward", "t")]
    assert material.training[0].points == ((0, 0.5), (2, 0.75))


def trained(run: Path, logs: Sequence[str]) -> Material:
    """A run with these logs, one of each session, and an evaluation."""
    write(run / "eval" / "epoch-0" / "a", [record(0, True)])
    for number, text in enumerate(logs):
        (run / "logs" / f"version_{number}").mkdir(parents=True)
        (run / "logs" / f"version_{number}" / "metrics.csv").write_text(text)
    return load([str(run)])


def test_metrics_of_training_are_curves_and_repeated_steps_are_replaced(tmp_path: Path) -> None:
    logs = [
        "step,train/loss,val/loss,train/lr,train/odd\n0,3.0,,0.1,1\n1,2.0,,inf,1\n2,1.0,,0.2,1\n",
        "step,train/loss,val/loss\n1,2.5,\n2,,0.9\n",
        "step,test/loss\n0,7\n1,7\n",
    ]
    material = trained(tmp_path / "t", logs)
    assert [(curve.metric, curve.points) for curve in material.training] == [
        ("train/loss", ((0, 3.0), (1, 2.5)))
    ]
    plot = training_metric(material.training, "train/loss")
    assert (plot.name, plot.title) == ("loss", "Loss")
    assert "t: 2 steps, from 3 to 2.5." in plot.caption


def test_a_session_that_begins_with_a_validation_keeps_the_step_before_it(tmp_path: Path) -> None:
    logs = [
        "step,train/loss,val/loss\n0,3.0,\n1,2.0,\n2,9.0,\n",
        "step,train/loss,val/loss\n1,,2.5\n2,1.0,\n3,,0.5\n",
    ]
    material = trained(tmp_path / "t", logs)
    assert {curve.metric: curve.points for curve in material.training} == {
        "train/loss": ((0, 3.0), (1, 2.0), (2, 1.0)),
        "val/loss": ((1, 2.5), (3, 0.5)),
    }


def test_the_parts_of_a_training_run_s_data_are_read(tmp_path: Path) -> None:
    write(tmp_path / "t" / "eval" / "epoch-0" / "a", [record(0, True)])
    shares = {"gsm8k": {"items": 12, "draws": 9}, "math": {"items": 24, "draws": 27}}
    manifest = {"run": "1", "started": "2026-01-31T23:59:59Z", "policy": None, "shares": shares}
    (tmp_path / "t" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    [(run, parts)] = load([str(tmp_path / "t")]).shares.items()
    table = shares_table("t", parts)
    assert run == str(tmp_path / "t")
    assert table.rows == (("gsm8k", "12", "9", "25.0 %"), ("math", "24", "27", "75.0 %"))


def test_folders_that_hold_no_evaluation_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "x" / "a", [record(0, True)])
    cases = {
        "empty holds no evaluation": [tmp_path / "empty"],
        "nowhere is neither a folder": [tmp_path / "nowhere"],
        "named twice": [tmp_path / "x", tmp_path / "x"],
        "the same evaluation is named twice": [tmp_path / "x", tmp_path / "x" / "a"],
        "at least one": [],
    }
    for told, folders in cases.items():
        with pytest.raises(ValueError, match=told):
            load([str(folder) for folder in folders])
    (tmp_path / "x" / "a" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json is not JSON"):
        load([str(tmp_path / "x")])


def test_levels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    levels = ["Level 10", "Level 9", "other"]
    write(
        tmp_path / "a",
        [record(i, i == 1, tags={"level": level, "id": "x"}) for i, level in enumerate(levels)],
    )
    runs = load([str(tmp_path / "a")]).runs
    assert tags(runs) == ["level"]
    found = tag_summaries(runs, "level")
    assert [(value, s.accuracy) for value, [s] in found.items()] == [
        ("Level 9", 1.0),
        ("Level 10", 0.0),
        ("other", 0.0),
    ]


def test_accuracy_by_round_of_several_samples_is_clustered(tmp_path: Path) -> None:
    def drafted(number: int, sample: int, *marks: bool) -> dict:
        events = [turn(), *(note("draft", "1", correct=mark) for mark in marks)]
        return record(number, marks[-1], *events, sample=sample)

    rows = [
        drafted(0, 0, False, True),
        drafted(0, 1, True),
        drafted(1, 0, False),
        drafted(1, 1, False, True),
    ]
    write(tmp_path / "a", rows)
    (run,) = load([str(tmp_path / "a")]).runs
    # problems' shares after round 1: 1/2, 0; after round 2: 1, 1/2
    assert round_points(run) == [
        (1, 0.25, *clustered([0.5, 0.0])),
        (2, 0.75, *clustered([1.0, 0.5])),
    ]


def test_votes_fall_into_bins_closed_at_their_upper_end(tmp_path: Path) -> None:
    shares = [
        (0.2, False),
        (0.6, True),
        (0.6000001, False),
        (1.0, True),
        (0.0, False),
        (0.41, True),
    ]
    write(
        tmp_path / "a",
        [record(i, right, note("vote", "1", value=v)) for i, (v, right) in enumerate(shares)],
    )
    (run,) = load([str(tmp_path / "a")]).runs
    assert [
        (round(each.right * each.n), each.n) for each in binned(winner_shares(run.samples))
    ] == [
        (0, 2),
        (2, 3),
        (1, 1),
    ]


def test_samples_of_a_problem_are_one_unit_of_verdicts_and_votes(tmp_path: Path) -> None:
    """Ten samples of each of four problems are no forty problems."""
    rows = [
        record(
            number,
            number < 2,
            note("draft", str(number), correct=number < 2),
            note("verdict", "CORRECT", role="verifier"),
            note("vote", "1", value=1.0),
            sample=sample,
        )
        for number in range(4)
        for sample in range(10)
    ]
    (run,) = load([str(write(tmp_path / "a", rows))]).runs
    low, high = pooled([10, 10, 0, 0], [10] * 4)
    assert high - low > 0.6
    [only] = binned(winner_shares(run.samples))
    assert (only.low, only.high, only.n) == (low, high, 40)
    [plot] = confusions(run, 0, "x")
    assert f"20 of 40 agree with the grader: 50.0 % [{100 * low:.1f}, {100 * high:.1f}]" in (
        plot.caption
    )


def test_figures_do_not_depend_on_the_folder_name(tmp_path: Path) -> None:
    write(tmp_path / "out" / "a", varied())
    one, two = load([str(tmp_path / "out")]).runs, load([str(tmp_path / "out" / "a")]).runs
    assert one[0].summary == two[0].summary
