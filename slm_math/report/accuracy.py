"""Figures of accuracy: over all problems, by tag, and over training."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slm_math.metrics.meanings import meaning
from slm_math.metrics.summary import Summary, by_tag
from slm_math.records.eval_folders import TWIN_OF
from slm_math.report.drawing import (
    Plot,
    bars,
    color,
    drawing,
    face,
    key,
    label,
    rows,
    shares_axis,
    stroke,
)
from slm_math.report.load import AccuracyCurve, AgentRun
from slm_math.report.rewards import SHOWN, TrainingCurve
from slm_math.report.text import percent

MOST_VALUES = 24  # a tag with more values identifies problems rather than kinds of problems
WINDOW = 20  # steps over which rewards are smoothed


def overall(runs: Sequence[AgentRun], places: Mapping[str, int], name: str) -> Plot:
    """Accuracy of every run, one bar each."""
    with drawing(0.75 + 0.3 * len(runs)) as (figure, [axes]):
        for y, run in enumerate(runs):
            share = (run.summary.accuracy, run.summary.low, run.summary.high)
            bars(axes, [y], shares=[share], height=0.62, style=face(places[run.name]))
        rows(axes, range(len(runs)), [label(run.name) for run in runs])
        shares_axis(axes.xaxis, "accuracy")
    results = "; ".join(f"{run.name} {run.summary.shown()}" for run in runs)
    lead = _extremes({run.name: run.summary.accuracy for run in runs})
    return Plot(name, "Accuracy", f"{lead}Accuracy in %, 95 % interval: {results}.", figure)


def _extremes(shares: Mapping[str, float]) -> str:
    """A sentence about the highest and the lowest of several shares, unless they are tied."""
    parts = []
    for word, extreme in (("highest", max(shares.values())), ("lowest", min(shares.values()))):
        names = [name for name, share in shares.items() if share == extreme]
        if len(names) == 1 and len(shares) > 1:
            parts.append(f"{word}: {names[0]} ({percent(extreme)})")
    sentence = ", ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}. " if sentence else ""


def tags(runs: Sequence[AgentRun]) -> list[str]:
    """The tags that distinguish kinds of problems: level, subject and source first, then those with
    few values.
    """
    by_tag_name: dict[str, set[str]] = {}
    for run in runs:
        for tag in (tag for tag in run.samples.tags if tag != TWIN_OF):
            values = by_tag_name.setdefault(tag, set())
            if len(values) <= MOST_VALUES:  # else it is not useful
                values.update(run.samples.tag_counts(tag))
    useful = [tag for tag, values in by_tag_name.items() if 2 <= len(values) <= MOST_VALUES]
    first = ("level", "subject", "source")

    def order(tag: str) -> tuple[int, int, str]:
        return first.index(tag) if tag in first else len(first), len(by_tag_name[tag]), tag

    return sorted(useful, key=order)


def tag_summaries(runs: Sequence[AgentRun], tag: str) -> dict[str, list[Summary | None]]:
    """By value of a tag, the summary of every run, None for a run without such problems; values
    with numbers are in numerical order.
    """
    parts = [by_tag(run.samples, tag) for run in runs]
    values = sorted({value for part in parts for value in part}, key=natural)
    return {value: [part.get(value) for part in parts] for value in values}


def natural(value: str) -> tuple[float, str]:
    """A key that sorts values with numbers in numerical order."""
    digits = "".join(char for char in value if char in "0123456789")
    return (int(digits[:9]) if digits else math.inf), value


def by_value(runs: Sequence[AgentRun], tag: str, places: Mapping[str, int], name: str) -> Plot:
    """Accuracy by the values of a tag: a group of bars for each value, a bar for each run."""
    table = tag_summaries(runs, tag)
    draw = _upright if all(re.fullmatch(r"[0-9]{1,3}", value) for value in table) else _across
    figure = draw(runs, table, places)
    accuracies = {
        label(value): [summary.accuracy for summary in row if summary is not None]
        for value, row in table.items()
    }
    lead = _extremes({value: sum(some) / len(some) for value, some in accuracies.items()})
    if lead and len(runs) > 1:
        lead = f"By the mean of the runs, {lead[:1].lower()}{lead[1:]}"
    caption = f"{lead}Accuracy by {label(tag)}, with 95 % intervals; n is the number of problems."
    return Plot(name, f"Accuracy by {label(tag)}", caption, figure)


def _grouped(
    axes: Axes,
    runs: Sequence[AgentRun],
    table: Mapping[str, Sequence[Summary | None]],
    places: Mapping[str, int],
    upright: bool,
) -> None:
    """A group of bars for each value, a bar for each run."""
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        column = [(place, row[number]) for place, row in enumerate(table.values())]
        shown = [(place, summary) for place, summary in column if summary is not None]
        at = [place - 0.4 + width * (number + 0.5) for place, _ in shown]
        shares = [(summary.accuracy, summary.low, summary.high) for _, summary in shown]
        style = face(places[run.name]) | {"label": label(run.name)}
        bars(axes, at, shares=shares, height=width * 0.92, style=style, upright=upright)


def _across(
    runs: Sequence[AgentRun],
    table: Mapping[str, Sequence[Summary | None]],
    places: Mapping[str, int],
) -> Figure:
    """Horizontal bars, whose names may be long."""
    with drawing(1.0 + len(table) * max(0.3, 0.1 * len(runs) + 0.1)) as (figure, [axes]):
        _grouped(axes, runs, table, places, upright=False)
        counts = [_most_problems(row) for row in table.values()]
        names = [f"{label(value, 28)} (n = {n})" for value, n in zip(table, counts)]
        rows(axes, range(len(table)), names)
        shares_axis(axes.xaxis, "accuracy")
        key(figure, axes, len(runs))
    return figure


def _upright(
    runs: Sequence[AgentRun],
    table: Mapping[str, Sequence[Summary | None]],
    places: Mapping[str, int],
) -> Figure:
    """Vertical bars over a scale, such as levels."""
    with drawing(2.9) as (figure, [axes]):
        _grouped(axes, runs, table, places, upright=True)
        counts = [_most_problems(row) for row in table.values()]
        names = [f"{value}\nn = {n}" for value, n in zip(table, counts)]
        axes.set_xticks(range(len(table)), names)
        axes.tick_params(axis="x", length=0)
        shares_axis(axes.yaxis, "accuracy")
        key(figure, axes, len(runs))
    return figure


def _most_problems(row: Sequence[Summary | None]) -> int:
    return max(summary.problems for summary in row if summary is not None)


def over_training(curves: Sequence[AccuracyCurve], places: Mapping[str, int], name: str) -> Plot:
    """Accuracy over the epochs, or steps, of training."""
    unit = curves[0].unit
    with drawing(2.7) as (figure, [axes]):
        for number, curve in enumerate(curves):
            place = places.get(curve.name, len(places) + number)
            done = [x for x, _ in curve.points]
            summaries = [summary for _, summary in curve.points]
            accuracies = [summary.accuracy for summary in summaries]
            axes.plot(done, accuracies, marker="o", markersize=3, **stroke(place))
            axes.lines[-1].set_label(label(curve.name))
            low, high = ([getattr(one, end) for one in summaries] for end in ("low", "high"))
            axes.fill_between(done, low, high, color=color(place), alpha=0.15, linewidth=0)
        shares_axis(axes.yaxis, "accuracy")
        axes.set_xlabel(f"{unit} of training")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        key(figure, axes, len(curves))
    results = "; ".join(map(_from_to, curves))
    caption = f"Accuracy during training with 95 % bands: {results}."
    return Plot(name, f"Accuracy over {unit}", caption, figure)


def _from_to(curve: AccuracyCurve) -> str:
    (begin, first), (end, last) = curve.points[0], curve.points[-1]
    return (
        f"{curve.name} from {percent(first.accuracy)} after {begin} to {percent(last.accuracy)} "
        f"after {end} (n = {last.problems})"
    )


def training_metric(curves: Sequence[TrainingCurve], metric: str) -> Plot:
    """A metric of training steps, and smoothed."""
    short = metric.partition("/")[2]
    with drawing(2.3) as (figure, [axes]):
        for place, curve in enumerate(curves):
            steps, values = zip(*curve.points)
            axes.plot(steps, values, color=color(place), linewidth=0.6, alpha=0.5)
            smooth = [
                sum(values[max(end - WINDOW, 0) : end]) / min(end, WINDOW)
                for end in range(1, len(values) + 1)
            ]
            axes.plot(steps, smooth, label=label(curve.name), **stroke(place))
        axes.grid(True)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("mean reward" if short == "reward" else short.replace("_", " "))
        key(figure, axes, len(curves))
    courses = "; ".join(
        f"{curve.name}: {len(curve.points)} steps, from {curve.points[0][1]:.3g} to "
        f"{curve.points[-1][1]:.3g}"
        for curve in curves
    )
    # the loss of fine-tuning and that of GRPO have one name, and two meanings
    what = meaning(short) if short != "loss" else "What training minimizes."
    caption = f"{what} Each step (thin), and the mean of the last {WINDOW} (thick). {courses}."
    name = short if metric.startswith("train/") else metric.replace("/", "-")
    return Plot(name, SHOWN[metric], caption, figure)
