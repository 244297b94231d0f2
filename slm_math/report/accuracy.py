"""Figures of accuracy: over all problems, by tag, and in the course of training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from slm_math.metrics.summary import Summary, by_tag
from slm_math.report.drawing import (
    Plot,
    bars,
    colour,
    drawing,
    face,
    key,
    label,
    rows,
    shares_axis,
    stroke,
)
from slm_math.report.load import Curve, Reward, Run
from slm_math.report.text import percent

MOST_VALUES = 24  # of a tag; one with more is an identifier rather than a kind of problem
WINDOW = 20  # steps that a smoothed reward is the mean of


def overall(runs: Sequence[Run], places: Mapping[str, int], name: str) -> Plot:
    """Accuracy of every run, one bar each."""
    with drawing(0.75 + 0.3 * len(runs)) as (figure, [axes]):
        for y, run in enumerate(runs):
            s = run.summary
            bars(axes, [y], [(s.accuracy, s.low, s.high)], 0.62, face(places[run.name]))
        rows(axes, range(len(runs)), [label(run.name) for run in runs])
        shares_axis(axes.xaxis, "accuracy")
    told = "; ".join(f"{run.name} {run.summary.shown()}" for run in runs)
    lead = _ends({run.name: run.summary.accuracy for run in runs})
    return Plot(name, "Accuracy", f"{lead}Accuracy in %, 95 % interval: {told}.", figure)


def _ends(shares: Mapping[str, float]) -> str:
    """A sentence about the highest and the lowest of several shares; about one that others share,
    nothing.
    """
    found = []
    for word, end in (("highest", max(shares.values())), ("lowest", min(shares.values()))):
        names = [name for name, share in shares.items() if share == end]
        if len(names) == 1 and len(shares) > 1:
            found.append(f"{word}: {names[0]} ({percent(end)})")
    told = ", ".join(found)
    return f"{told[:1].upper()}{told[1:]}. " if told else ""


def tags(runs: Sequence[Run]) -> list[str]:
    """The tags that tell kinds of problems apart: level and subject first, then those with few
    values.
    """
    found: dict[str, set[str]] = {}
    for run in runs:
        for row in run.records:
            for tag, value in row["tags"].items():
                found.setdefault(tag, set()).add(value)
    kept = [tag for tag, values in found.items() if 2 <= len(values) <= MOST_VALUES]
    first = ("level", "subject")
    return sorted(
        kept,
        key=lambda tag: (first.index(tag) if tag in first else len(first), len(found[tag]), tag),
    )


def tag_summaries(runs: Sequence[Run], tag: str) -> dict[str, list[Summary | None]]:
    """By value of a tag, the summary of every run, None for one without such problems; numbers in
    their order.
    """
    parts = [by_tag(run.records, tag) for run in runs]
    values = sorted({value for part in parts for value in part}, key=_natural)
    return {value: [part.get(value) for part in parts] for value in values}


def _natural(value: str) -> tuple[float, str]:
    digits = "".join(c for c in value if c in "0123456789")
    return (int(digits[:9]) if digits else math.inf), value


def by_value(runs: Sequence[Run], tag: str, places: Mapping[str, int], name: str) -> Plot:
    """Accuracy by the values of a tag: a group of bars for each value, a bar for each run."""
    table = tag_summaries(runs, tag)
    height = 0.8 / len(runs)
    with drawing(1.0 + len(table) * max(0.3, 0.1 * len(runs) + 0.1)) as (figure, [axes]):
        for i, run in enumerate(runs):
            shown = [(y, row[i]) for y, row in enumerate(table.values())]
            at = [y - 0.4 + height * (i + 0.5) for y, s in shown if s is not None]
            shares = [(s.accuracy, s.low, s.high) for _, s in shown if s is not None]
            bars(
                axes, at, shares, height * 0.92, face(places[run.name]) | {"label": label(run.name)}
            )
        counts = [max(s.problems for s in row if s is not None) for row in table.values()]
        rows(axes, range(len(table)), [f"{label(v, 28)} (n = {n})" for v, n in zip(table, counts)])
        axes.set_ylabel(label(tag))
        shares_axis(axes.xaxis, "accuracy")
        key(figure, axes, len(runs))
    found = {
        label(value): [s.accuracy for s in row if s is not None] for value, row in table.items()
    }
    means = _ends({value: sum(shares) / len(shares) for value, shares in found.items()})
    lead = (
        f"By the mean of the runs, {means[:1].lower()}{means[1:]}"
        if means and len(runs) > 1
        else means
    )
    caption = f"{lead}Accuracy by {label(tag)}, with 95 % intervals; n is the number of problems."
    return Plot(name, f"Accuracy by {label(tag)}", caption, figure)


def course(curves: Sequence[Curve], places: Mapping[str, int], name: str) -> Plot:
    """Accuracy over the epochs, or steps, of training."""
    unit = curves[0].unit
    with drawing(2.7) as (figure, [axes]):
        for number, curve in enumerate(curves):
            place = places.get(curve.name, len(places) + number)
            xs = [x for x, _ in curve.points]
            axes.plot(
                xs, [s.accuracy for _, s in curve.points], marker="o", markersize=3, **stroke(place)
            )
            axes.lines[-1].set_label(label(curve.name))
            low, high = [s.low for _, s in curve.points], [s.high for _, s in curve.points]
            axes.fill_between(xs, low, high, color=colour(place), alpha=0.15, linewidth=0)
        shares_axis(axes.yaxis, "accuracy")
        axes.set_xlabel(f"{unit} of training done")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        key(figure, axes, len(curves))
    told = "; ".join(
        f"{c.name} from {percent(c.points[0][1].accuracy)} after {c.points[0][0]} to "
        f"{percent(c.points[-1][1].accuracy)} after {c.points[-1][0]} (n = "
        f"{c.points[-1][1].problems})"
        for c in curves
    )
    return Plot(
        name, f"Accuracy over {unit}", f"Accuracy in training with 95 % bands: {told}.", figure
    )


def rewards(found: Sequence[Reward], name: str) -> Plot:
    """The mean reward of training steps, smoothed."""
    with drawing(2.3) as (figure, [axes]):
        for place, reward in enumerate(found):
            steps, values = zip(*reward.points)
            axes.plot(steps, values, color=colour(place), linewidth=0.6, alpha=0.5)
            smooth = [
                sum(values[max(i - WINDOW + 1, 0) : i + 1]) / min(i + 1, WINDOW)
                for i in range(len(values))
            ]
            axes.plot(steps, smooth, label=label(reward.name), **stroke(place))
        axes.grid(True)
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("mean reward")
        key(figure, axes, len(found))
    told = "; ".join(f"{r.name}: {len(r.points)} steps" for r in found)
    caption = f"Mean reward of each step (thin) and the mean of the last {WINDOW} (thick). {told}."
    return Plot(name, "Reward in training", caption, figure)


def composition(run: Run, name: str) -> Plot | None:
    """What the problems are: the share of each value of each tag. None without tags."""
    problems: dict[Any, Mapping[str, str]] = {row["id"]: row["tags"] for row in run.records}
    found = []
    for tag in ("dataset", *(t for t in tags([run]) if t != "dataset")):
        counts = Counter(values[tag] for values in problems.values() if tag in values)
        found += [(tag, value, counts[value]) for value in sorted(counts, key=_natural)]
    if not found:
        return None
    n, names = len(problems), list(dict.fromkeys(tag for tag, _, _ in found))
    with drawing(0.8 + 0.2 * (len(found) + len(names))) as (figure, [axes]):
        at = [i + names.index(tag) for i, (tag, _, _) in enumerate(found)]
        for y, (tag, _, count) in zip(at, found):
            axes.barh([y], [count / n], height=0.75, alpha=0.85, facecolor=colour(names.index(tag)))
            axes.text(
                count / n + 0.01, y, f"{count} ({percent(count / n, 0)})", va="center", fontsize=8.5
            )
        rows(axes, at, [f"{label(tag, 16)}: {label(value, 26)}" for tag, value, _ in found])
        shares_axis(axes.xaxis, "share of problems")
        axes.set_xlim(0, min(1.18, 1.25 * max(count for _, _, count in found) / n + 0.1))
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
    most = max(found, key=lambda item: item[2])
    caption = (
        f"What the {n} problems are. The largest part is {label(most[0])} {label(most[1])} with "
        f"{most[2]}."
    )
    return Plot(name, "Data", caption, figure)
