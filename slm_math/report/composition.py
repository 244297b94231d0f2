"""Figures of what data consist of: the problems of an evaluation, and what training draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slm_math.metrics.arrays import in_order
from slm_math.report.accuracy import natural, tags
from slm_math.report.drawing import Plot, color, drawing, label, rows, shares_axis
from slm_math.report.load import AgentRun
from slm_math.report.text import line, percent


@dataclass(frozen=True)
class _Bar:
    """A part of `n` of something, with its name; bars of one group have one color."""

    group: int
    name: str
    n: int


def composition(run: AgentRun, name: str) -> Plot | None:
    """The share of problems with each value of each tag; None without tags."""
    samples = run.samples
    different, numbers = in_order(samples.problems)
    last = np.empty(len(different), np.int64)
    last[numbers] = np.arange(len(samples))
    problems = samples.where(last)
    parts: list[tuple[str, str, int]] = []  # (tag, value, problems)
    for tag in ("dataset", *(other for other in tags([run]) if other != "dataset")):
        counts = problems.tag_counts(tag)
        parts += [(tag, value, counts[value]) for value in sorted(counts, key=natural)]
    if not parts:
        return None
    names = list(dict.fromkeys(tag for tag, _, _ in parts))
    bars = [
        _Bar(names.index(tag), f"{label(tag, 16)}: {label(value, 26)}", count)
        for tag, value, count in parts
    ]
    tag, value, count = max(parts, key=lambda part: part[2])
    caption = (
        f"The {len(problems)} problems by tag. The largest part is {label(tag)} {label(value)} "
        f"with {count}."
    )
    return Plot(name, "Data", caption, _drawn(bars, len(problems), "share of problems"))


def training_shares(run: str, parts: Mapping[str, Mapping[str, int]], name: str) -> Plot:
    """What an epoch of training draws of each part of its data."""
    total = sum(part["draws"] for part in parts.values())
    bars = [
        _Bar(0, label(part), counts["draws"])
        for part, counts in sorted(parts.items(), key=lambda item: -item[1]["draws"])
    ]
    held = "; ".join(f"{line(part, 60)} {counts['items']:,}" for part, counts in parts.items())
    caption = f"Of the {total:,} draws of an epoch, how many are of each data set. Rows: {held}."
    title = f"Shares of the training data, {line(run, 60)}"
    return Plot(name, title, caption, _drawn(bars, total, "share of draws"))


def _drawn(parts: Sequence[_Bar], total: int, axis: str) -> Figure:
    """The parts as horizontal bars, each with its number and its share."""
    groups = len({part.group for part in parts})
    with drawing(0.8 + 0.2 * (len(parts) + groups)) as (figure, [axes]):
        at = [number + part.group for number, part in enumerate(parts)]
        for y, part in zip(at, parts, strict=True):
            share = part.n / total
            axes.barh([y], [share], height=0.75, alpha=0.85, facecolor=color(part.group))
            text = f"{part.n:,} ({percent(share, 0)})"
            axes.text(share + 0.01, y, text, va="center", fontsize=8.5)
        rows(axes, at, [part.name for part in parts])
        shares_axis(axes.xaxis, axis)
        axes.set_xlim(0, min(1.18, 1.25 * max(part.n for part in parts) / total + 0.1))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1])
    return figure
