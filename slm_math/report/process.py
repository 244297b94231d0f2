"""Figures of the way to an answer: rounds, verdicts, votes, and their cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from slm_math.metrics.calibration import VoteBin, binned, winner_shares
from slm_math.metrics.columns import Samples
from slm_math.metrics.rounds import (
    VERDICTS,
    round_metrics,
    verdict_counts,
    verdict_observations,
)
from slm_math.report.drawing import (
    INK,
    Plot,
    color,
    drawing,
    key,
    label,
    rows,
    shares_axis,
    stroke,
)
from slm_math.report.load import AgentRun
from slm_math.report.text import percent

AGREES = "verifier_accuracy"  # the share of verdicts that agree with the grader
OUTCOMES = {  # a share of `round_metrics`: its name, color and hatch
    "stayed_right": ("correct at first and in the end", "#009e73", ""),
    "improved": ("improved", "#56b4e9", "///"),
    "degraded": ("degraded", "#d55e00", "xxx"),
    "failed": ("incorrect at first and in the end", "#999999", ""),
}


def round_points(run: AgentRun) -> list[tuple[int, float, float, float]]:
    """(round, accuracy if all had stopped there at the latest, low, high)."""
    metrics, points = run.summary.metrics, []
    while (name := f"round_{len(points) + 1}/accuracy") in metrics:
        points.append((len(points) + 1, metrics[name], *run.summary.intervals[name][:2]))
    return points


def by_round(runs: Sequence[AgentRun], places: Mapping[str, int], name: str) -> Plot | None:
    """Accuracy if every sample had stopped after a round."""
    curves = {run.name: points for run in runs if (points := round_points(run))}
    if not curves:
        return None
    with drawing(2.6) as (figure, [axes]):
        for number, (run, points) in enumerate(curves.items()):
            shift = 0.05 * (number - (len(curves) - 1) / 2)
            accuracies = [accuracy for _, accuracy, _, _ in points]
            whiskers = [
                [max(accuracy - low, 0) for _, accuracy, low, _ in points],
                [max(high - accuracy, 0) for _, accuracy, _, high in points],
            ]
            style = stroke(places[run]) | {"marker": "o", "markersize": 3, "label": label(run)}
            xs = [r + shift for r, *_ in points]
            axes.errorbar(xs, accuracies, yerr=whiskers, capsize=2, elinewidth=0.9, **style)
        axes.set_xticks(range(1, max(len(points) for points in curves.values()) + 1))
        axes.set_xlabel("last round")
        shares_axis(axes.yaxis, "accuracy")
        key(figure, axes, len(curves))
    results = "; ".join(
        f"{run} {percent(points[0][1])} after the first, {percent(points[-1][1])} after the last "
        f"of {len(points)}"
        for run, points in curves.items()
    )
    caption = (
        f"Accuracy if every sample had stopped after this round at the latest, of samples with "
        f"drafts, with 95 % intervals: {results}."
    )
    return Plot(name, "Accuracy by round", caption, figure)


def outcomes(runs: Sequence[AgentRun], name: str) -> Plot | None:
    """The answer compared with the first draft."""
    shares = {
        run.name: (int(run.samples.total(lambda one: bool(one.rounds))), metrics)
        for run in runs
        if (metrics := round_metrics(run.samples))
    }
    if not shares:
        return None
    with drawing(1.0 + 0.3 * len(shares)) as (figure, [axes]):
        for y, (_, metrics) in enumerate(shares.values()):
            left = 0.0
            for outcome, (words, shade, hatch) in OUTCOMES.items():
                axes.barh(
                    [y],
                    [metrics[outcome]],
                    left=[left],
                    height=0.6,
                    label=words if y == 0 else None,
                    facecolor=shade,
                    hatch=hatch,
                    edgecolor=INK,
                    linewidth=0.3,
                    alpha=0.85,
                )
                left += metrics[outcome]
        names = [f"{label(run)} (n = {n})" for run, (n, _) in shares.items()]
        rows(axes, range(len(shares)), names)
        shares_axis(axes.xaxis, "share of samples with drafts")
        key(figure, axes, len(OUTCOMES))
    results = "; ".join(
        f"{run} improved {percent(metrics['improved'])} and degraded "
        f"{percent(metrics['degraded'])} of {n}"
        for run, (n, metrics) in shares.items()
    )
    return Plot(name, "First draft and answer", f"{results}.", figure)


def confusions(run: AgentRun, place: int, name: str) -> list[Plot]:
    """The verdicts of each verifying role of a run on correct and incorrect answers."""
    by_role = verdict_counts(run.samples)
    names = {role: f"{name}-{role}" if len(by_role) > 1 else name for role in by_role}
    return [
        _confusion(run, place, names[role], role=role, counts=counts)
        for role, counts in by_role.items()
    ]


def _confusion(
    run: AgentRun, place: int, name: str, *, role: str, counts: Counter[tuple[str, bool]]
) -> Plot:
    with drawing(1.55) as (figure, [axes]):
        for y, correct in enumerate((True, False)):
            total = sum(counts[verdict, correct] for verdict in VERDICTS)
            for x, verdict in enumerate(VERDICTS):
                count = counts[verdict, correct]
                share = count / max(total, 1)
                alpha = 0.08 + 0.5 * share
                axes.barh([y], [1], left=[x], height=1, facecolor=color(place), alpha=alpha)
                text = f"{count} ({percent(share, 0)})"
                axes.text(x + 0.5, y, text, ha="center", va="center")
        axes.set_yticks((0, 1), ("correct answers", "incorrect answers"))
        axes.set_xticks((0.5, 1.5, 2.5), VERDICTS)
        axes.set_xlim(0, 3)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    agreed, n = counts["CORRECT", True] + counts["INCORRECT", False], counts.total()
    observed = verdict_observations(run.samples)
    name_of = f"{role}/{AGREES}" if f"{role}/{AGREES}" in observed else AGREES
    low, high, _ = observed[name_of].interval()
    caption = (
        f"Verdicts of the {role or 'verifier'} of {run.name}; percentages are of each row. "
        f"{agreed} of {n} agree with the grader: "
        f"{percent(agreed / n)} [{100 * low:.1f}, {100 * high:.1f}]."
    )
    return Plot(name, f"{(role or 'verifier').capitalize()}: {run.name}", caption, figure)


def calibration(runs: Sequence[AgentRun], places: Mapping[str, int], name: str) -> Plot | None:
    """How often the winner of a vote is correct, by its share of the votes."""
    by_run = {run.name: bins for run in runs if (bins := binned(winner_shares(run.samples)))}
    if not by_run:
        return None
    figure = _calibration(by_run, places, "the winner's share of the votes", "winner is correct")
    results = "; ".join(
        f"{run}: {percent(last.right)} correct with {percent(last.share, 0)} of the votes (n = "
        f"{last.n})"
        for run, (*_, last) in by_run.items()
    )
    caption = f"Calibrated votes lie on the dashed line; 95 % intervals. {results}."
    return Plot(name, "Calibration of votes", caption, figure)


def verdict_calibration(
    runs: Sequence[AgentRun], places: Mapping[str, int], name: str
) -> Plot | None:
    """How many drafts are right, by the share of a verifier's verdicts that say so."""
    judges = {run.name: run.summary for run in runs if run.summary.calibration}
    if not judges:
        return None
    bins = {run: summary.calibration for run, summary in judges.items()}
    figure = _calibration(bins, places, "verdicts that say CORRECT", "draft is right")
    results = "; ".join(
        f"{run} {percent(metrics['calibration_error'])} "
        f"[{100 * metrics['calibration_error_low']:.1f}, "
        f"{100 * metrics['calibration_error_high']:.1f}] (n = "
        f"{sum(each.n for each in bins[run])} drafts)"
        for run, metrics in ((run, summary.metrics) for run, summary in judges.items())
    )
    caption = (
        f"Calibrated verdicts lie on the dashed line; 95 % intervals. Expected calibration error: "
        f"{results}."
    )
    return Plot(name, "Calibration of verdicts", caption, figure)


def _calibration(
    by_run: Mapping[str, Sequence[VoteBin]], places: Mapping[str, int], x: str, y: str
) -> Figure:
    """The share that holds against the share of the votes, with intervals."""
    with drawing(2.9) as (figure, [axes]):
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle="--")
        for run, bins in by_run.items():
            whiskers = [
                [max(each.right - each.low, 0) for each in bins],
                [max(each.high - each.right, 0) for each in bins],
            ]
            style = stroke(places[run]) | {"marker": "o", "markersize": 3.5, "label": label(run)}
            shares, rights = [each.share for each in bins], [each.right for each in bins]
            axes.errorbar(shares, rights, yerr=whiskers, capsize=2, elinewidth=0.9, **style)
            for each in bins:
                axes.annotate(
                    f"n = {each.n}",
                    (each.share, each.right),
                    (5, -10 if each.right > 0.1 else 5),
                    textcoords="offset points",
                    fontsize=8,
                )
        shares_axis(axes.xaxis, x)
        shares_axis(axes.yaxis, y)
        axes.set_xlim(0, 1.06)
        key(figure, axes, len(by_run))
    return figure


def cumulative(
    runs: Sequence[AgentRun],
    places: Mapping[str, int],
    quantity: str,
    of: Callable[[Samples], np.ndarray],
) -> Plot | None:
    """The share of samples that needed no more than some amount of a quantity (tokens, seconds)."""
    by_run = {run.name: values for run in runs if (values := np.sort(of(run.samples))).any()}
    if not by_run:
        return None
    with drawing(2.5) as (figure, [axes]):
        for run, values in by_run.items():
            axes.ecdf(values, label=label(run), **stroke(places[run]))
        shares_axis(axes.yaxis, "share of samples")
        axes.set_xlim(left=0)
        axes.grid(True)
        axes.set_xlabel(f"{quantity} per sample")
        key(figure, axes, len(by_run))
    results = "; ".join(
        f"{run} {_amount(values[len(values) // 2])}, largest {_amount(values[-1])} "
        f"(n = {len(values)})"
        for run, values in by_run.items()
    )
    caption = f"Share of samples with at most so many {quantity}. Median: {results}."
    return Plot(quantity, quantity.capitalize(), caption, figure)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
