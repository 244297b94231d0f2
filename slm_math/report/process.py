"""Figures of what agents did on the way: rounds, verdicts, votes, and what it cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slm_math.metrics.intervals import wilson
from slm_math.metrics.rounds import drafts, rounds, verdicts, votes
from slm_math.report.drawing import (
    INK,
    Plot,
    colour,
    drawing,
    key,
    label,
    rows,
    shares_axis,
    stroke,
)
from slm_math.report.load import Run
from slm_math.report.text import percent

BINS = 5  # of vote shares
OUTCOMES = {  # of `rounds`; a colour and whether it is hatched
    "first_right": ("right at first and in the end", "#009e73", ""),
    "improved": ("improved", "#56b4e9", "///"),
    "degraded": ("degraded", "#d55e00", "xxx"),
    "failed": ("wrong at first and in the end", "#999999", ""),
}
WORDS = ("CORRECT", "INCORRECT", "UNCLEAR")


def round_points(run: Run) -> list[tuple[int, float, float, float]]:
    """(round, accuracy if all had stopped there at the latest, low, high)."""
    found, points = run.summary.figures, []
    while (name := f"round_{len(points) + 1}/accuracy") in found:
        points.append((len(points) + 1, found[name], *run.summary.intervals[name][:2]))
    return points


def by_round(runs: Sequence[Run], places: Mapping[str, int], name: str) -> Plot | None:
    """Accuracy if all had stopped after a round."""
    found = {run.name: points for run in runs if (points := round_points(run))}
    if not found:
        return None
    with drawing(2.6) as (figure, [axes]):
        for i, (run, points) in enumerate(found.items()):
            xs = [r + 0.05 * (i - (len(found) - 1) / 2) for r, *_ in points]
            ends = [
                [max(v - low, 0) for _, v, low, _ in points],
                [max(high - v, 0) for _, v, _, high in points],
            ]
            look = stroke(places[run]) | {"marker": "o", "markersize": 3, "label": label(run)}
            axes.errorbar(
                xs, [v for _, v, _, _ in points], yerr=ends, capsize=2, elinewidth=0.9, **look
            )
        axes.set_xticks(range(1, max(len(points) for points in found.values()) + 1))
        axes.set_xlabel("round at which to stop at the latest")
        shares_axis(axes.yaxis, "accuracy")
        key(figure, axes, len(found))
    told = "; ".join(
        f"{run} {percent(p[0][1])} after the first, {percent(p[-1][1])} after the last of {len(p)}"
        for run, p in found.items()
    )
    caption = (
        f"Accuracy if all had stopped after a round, of samples with drafts, with 95 % intervals: "
        f"{told}."
    )
    return Plot(name, "Accuracy by round", caption, figure)


def outcomes(runs: Sequence[Run], name: str) -> Plot | None:
    """How the answer compares with the first draft."""
    found = {
        run.name: (sum(bool(drafts(r)) for r in run.records), v)
        for run in runs
        if (v := rounds(run.records))
    }
    if not found:
        return None
    with drawing(1.0 + 0.3 * len(found)) as (figure, [axes]):
        for y, (_, values) in enumerate(found.values()):
            left = 0.0
            for outcome, (words, shade, hatch) in OUTCOMES.items():
                look = {
                    "facecolor": shade,
                    "hatch": hatch,
                    "edgecolor": INK,
                    "linewidth": 0.3,
                    "alpha": 0.85,
                }
                axes.barh(
                    [y],
                    [values[outcome]],
                    left=[left],
                    height=0.6,
                    label=words if y == 0 else None,
                    **look,
                )
                left += values[outcome]
        rows(axes, range(len(found)), [f"{label(run)} (n = {n})" for run, (n, _) in found.items()])
        shares_axis(axes.xaxis, "share of samples with drafts")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    told = "; ".join(
        f"{run} improved {percent(v['improved'])} and degraded {percent(v['degraded'])} of {n}"
        for run, (n, v) in found.items()
    )
    return Plot(name, "First draft and answer", f"{told}.", figure)


def confusions(run: Run, place: int, name: str) -> list[Plot]:
    """What each judge of a run said about right and wrong answers."""
    by_role = verdicts(run.records)
    named = {role: f"{name}-{role}" if len(by_role) > 1 else name for role in by_role}
    return [_confusion(run, place, named[role], role, found) for role, found in by_role.items()]


def _confusion(
    run: Run, place: int, name: str, role: str, found: Counter[tuple[str, bool]]
) -> Plot:
    with drawing(1.55) as (figure, [axes]):
        for y, right in enumerate((True, False)):
            total = sum(found[word, right] for word in WORDS)
            for x, word in enumerate(WORDS):
                share = found[word, right] / max(total, 1)
                axes.barh(
                    [y], [1], left=[x], height=1, facecolor=colour(place), alpha=0.08 + 0.5 * share
                )
                axes.text(
                    x + 0.5,
                    y,
                    f"{found[word, right]} ({percent(share, 0)})",
                    ha="center",
                    va="center",
                )
        axes.set_yticks((0, 1), ("right answers", "wrong answers"))
        axes.set_xticks((0.5, 1.5, 2.5), [f"said {word}" for word in WORDS])
        axes.set_xlim(0, 3)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    agreed = found["CORRECT", True] + found["INCORRECT", False]
    low, high = wilson(agreed, found.total())
    caption = (
        f"Verdicts of the {role or 'verifier'} of {run.name}; percentages are of each row. "
        f"{agreed} of {found.total()} agree with the grader: "
        f"{percent(agreed / found.total())} [{100 * low:.1f}, {100 * high:.1f}]."
    )
    return Plot(name, f"{(role or 'verifier').capitalize()}: {run.name}", caption, figure)


def vote_bins(run: Run) -> list[tuple[float, int, int]]:
    """(mean share of the votes, right, n) of the votes in each of `BINS` equal ranges of shares
    that has some.
    """
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for share, right in votes(run.records):
        # a share of 0.6 belongs to (0.4, 0.6], whatever floating point makes of 0.6 * 5
        bins[min(max(math.ceil(share * BINS - 1e-6) - 1, 0), BINS - 1)].append((share, right))
    return [
        (sum(s for s, _ in b) / len(b), sum(right for _, right in b), len(b)) for b in bins if b
    ]


def calibration(runs: Sequence[Run], places: Mapping[str, int], name: str) -> Plot | None:
    """How often the winner of a vote is right, by the share of the votes that it got."""
    found = {run.name: bins for run in runs if (bins := vote_bins(run))}
    if not found:
        return None
    with drawing(2.9) as (figure, [axes]):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle="--")
        for run, bins in found.items():
            xs, ys = [x for x, _, _ in bins], [right / n for _, right, n in bins]
            spans = [wilson(right, n) for _, right, n in bins]
            ends = [
                [y - low for y, (low, _) in zip(ys, spans)],
                [high - y for y, (_, high) in zip(ys, spans)],
            ]
            look = stroke(places[run]) | {"marker": "o", "markersize": 3.5, "label": label(run)}
            axes.errorbar(xs, ys, yerr=ends, capsize=2, elinewidth=0.9, **look)
            for x, y, (_, _, n) in zip(xs, ys, bins):
                axes.annotate(
                    f"n = {n}",
                    (x, y),
                    (5, -10 if y > 0.1 else 5),
                    textcoords="offset points",
                    fontsize=8,
                )
        shares_axis(axes.xaxis, "share of the votes that the winner got")
        shares_axis(axes.yaxis, "winner is right")
        axes.set_xlim(0, 1.06)
        key(figure, axes, len(found))
    told = "; ".join(
        f"{run}: {percent(right / n)} right with {percent(share, 0)} of the votes (n = {n})"
        for run, (*_, (share, right, n)) in found.items()
    )
    caption = f"Votes that mean what they say lie on the dashed line; 95 % intervals. {told}."
    return Plot(name, "Calibration of votes", caption, figure)


def tokens_of(row: Mapping[str, Any]) -> float:
    return sum(event["tokens"] for event in row["events"] if event["kind"] == "turn")


def cumulative(
    runs: Sequence[Run],
    places: Mapping[str, int],
    name: str,
    what: str,
    of: Callable[[Mapping[str, Any]], float],
) -> Plot | None:
    """The share of samples that needed no more than so much of something."""
    found = {run.name: values for run in runs if any(values := sorted(map(of, run.records)))}
    if not found:
        return None
    with drawing(2.5) as (figure, [axes]):
        for run, values in found.items():
            axes.ecdf(values, label=label(run), **stroke(places[run]))
        shares_axis(axes.yaxis, "share of samples")
        axes.set_xlim(left=0)
        axes.grid(True)
        axes.set_xlabel(f"{what} per sample")
        key(figure, axes, len(found))
    told = "; ".join(
        f"{run} {_amount(v[len(v) // 2])}, largest {_amount(v[-1])} (n = {len(v)})"
        for run, v in found.items()
    )
    caption = f"Share of samples with no more {what} than on the axis. Median: {told}."
    return Plot(name, what.capitalize(), caption, figure)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
