"""Figures: what is drawn, and that nothing lies on anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from report.runs import record, varied, write

from slm_math.metrics.intervals import wilson
from slm_math.report.accuracy import by_value, overall
from slm_math.report.assemble import color_places, grouped
from slm_math.report.composition import training_shares
from slm_math.report.drawing import Plot, drawing, key
from slm_math.report.load import AgentRun, load

PLACES = {"base": 0, "sft": 1, "rl": 2}


def runs(tmp_path: Path) -> tuple[AgentRun, ...]:
    """Three agents on 12 problems of 3 levels and 2 subjects, with 7, 8 and 9 of 12 right."""
    for n, name in enumerate(PLACES):
        write(tmp_path / "out" / name,
              [row | {"correct": i < 7 + n} for i, row in enumerate(varied())])  # fmt: skip
    return load([str(tmp_path / "out")]).runs


def boxes(figure: Figure) -> dict[str, Any]:
    """Where title, legend and axes are, in pixels."""
    figure.canvas.draw()
    parts = {"title": figure.texts[-1], "axes": figure.axes[0], "legend": figure.legends[0]}
    return {name: part.get_tightbbox() for name, part in parts.items()}


@pytest.mark.parametrize("tag", ["level", "subject"])
def test_a_legend_covers_neither_the_title_nor_the_bars(tmp_path: Path, tag: str) -> None:
    plot = by_value(runs(tmp_path), tag, PLACES, "x")
    plot.put_title()
    found = boxes(plot.figure)
    assert found["title"].y0 >= found["legend"].y1
    assert found["legend"].y0 >= found["axes"].y1
    assert found["title"].y1 <= plot.figure.bbox.y1


@pytest.mark.parametrize("count", [2, 7, 16])
def test_a_legend_of_many_runs_takes_no_room_from_the_axes(count: int) -> None:
    with drawing(2.7) as (figure, [axes]):
        for n in range(count):
            axes.plot([0, 1], [0, n], label=f"a run with a name of some length, {n}")
        key(figure, axes, count)
    figure.canvas.draw()
    assert axes.get_position().height * figure.get_figheight() > 1.5  # inches
    legend = figure.legends[0].get_tightbbox()
    assert axes.get_tightbbox().y1 <= legend.y0  # type: ignore[union-attr]
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert legend.y1 <= figure.bbox.y1


def bars_of(plot: Plot, upright: bool) -> list[float]:
    patches = plot.figure.axes[0].patches
    return [patch.get_height() if upright else patch.get_width() for patch in patches]


def test_levels_are_upright_and_subjects_across_each_with_an_interval(tmp_path: Path) -> None:
    found = runs(tmp_path)
    levels = by_value(found, "level", PLACES, "x")
    # of the samples i < 7 and level i % 3 + 1: 3, 2 and 2 of 4
    assert bars_of(levels, upright=True)[:3] == [0.75, 0.5, 0.5]
    subjects = by_value(found, "subject", PLACES, "x")
    assert bars_of(subjects, upright=False)[:2] == pytest.approx([4 / 6, 3 / 6])
    for plot, n in ((levels, 9), (subjects, 6)):
        whiskers = list(plot.figure.axes[0].collections)
        assert sum(len(lines.get_segments()) for lines in whiskers) == n
    [low, high] = levels.figure.axes[0].collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(wilson(3, 4))


def test_names_on_a_figure_fit_in_it(tmp_path: Path) -> None:
    write(tmp_path / "out" / ("long_name_" * 8), varied())
    [run] = load([str(tmp_path / "out")]).runs
    figure = overall([run], {run.name: 0}, "x").figure
    figure.canvas.draw()
    tight = figure.get_tightbbox()
    width, _ = figure.get_size_inches()
    assert (tight.x0, tight.x1) == pytest.approx((0, width), abs=0.1)
    assert tight.x0 >= -0.01
    assert tight.x1 <= width + 0.01


def test_shares_of_the_training_data_are_those_of_the_draws() -> None:
    parts = {"small": {"items": 100, "draws": 300}, "large": {"items": 900, "draws": 700}}
    plot = training_shares("runs/sft", parts, "x")
    assert bars_of(plot, upright=False) == [0.7, 0.3]
    assert [text.get_text() for text in plot.figure.axes[0].texts] == ["700 (70 %)", "300 (30 %)"]
    assert "Rows: small 100; large 900" in plot.caption


def test_one_model_has_one_color_on_several_data_sets(tmp_path: Path) -> None:
    rows = [record(i, True) for i in range(2)]
    for name in ("base", "sft"):
        write(tmp_path / "first" / name, rows)
        write(tmp_path / "second" / name, [row | {"id": f"more/{i}"} for i, row in enumerate(rows)])
    found = load([str(tmp_path / "first"), str(tmp_path / "second")]).runs
    assert color_places(grouped(found)) == {
        "first/base": 0, "first/sft": 1, "second/base": 0, "second/sft": 1,
    }  # fmt: skip
