"""Accuracy against tokens: a table of agents at equal cost, and their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slm_math.evaluation.costs import Curve, at_equal_cost, curves
from slm_math.evaluation.costs_table import TITLES, cost_lines, cost_notes, cost_rows
from slm_math.report.drawing import Plot, color, drawing, key, label, shares_axis, stroke
from slm_math.report.load import AgentRun
from slm_math.report.tables import Table
from slm_math.report.text import percent


def curves_of(runs: Sequence[AgentRun]) -> list[Curve]:
    """The curves of the complete runs; [] for fewer than two, and if they cannot be compared."""
    complete = {run.name: run.samples for run in runs if not run.partial}
    try:
        return curves(complete) if len(complete) > 1 else []
    except ValueError:  # without tokens; the comparison says what else is wrong
        return []


def cost_table(found: Sequence[Curve], title: str) -> Table:
    """Every agent, with votes of its samples, against the first one at equal cost."""
    rows = at_equal_cost(found)
    notes = (f"{note[:1].upper()}{note[1:]}" for note in cost_notes(found, 0.0))
    note = ". ".join((*cost_lines(found, rows), *notes))
    return Table(title, TITLES, tuple(cost_rows(found, rows)), f"{note}.")


def by_cost(found: Sequence[Curve], places: Mapping[str, int], name: str) -> Plot:
    """Accuracy of every agent over its tokens, with the interval of each point."""
    with drawing(2.7) as (figure, [axes]):
        for curve in found:
            costs = [point.cost for point in curve.points]
            shares = [point.accuracy for point in curve.points]
            style = stroke(places[curve.name]) | {"marker": "o", "markersize": 3.5}
            axes.plot(costs, shares, label=label(curve.name), **style)
            ends = [(point.low, point.high) for point in curve.points]
            low, high = (
                [max(side * (end - share), 0) for share, end in zip(shares, own)]
                for side, own in ((-1, [a for a, _ in ends]), (1, [b for _, b in ends]))
            )
            whiskers = {"elinewidth": 0.9, "capsize": 2, "ecolor": color(places[curve.name])}
            axes.errorbar(costs, shares, yerr=(low, high), fmt="none", **whiskers)
        shares_axis(axes.yaxis, "accuracy")
        axes.set_xlim(left=0)
        axes.set_xlabel("sampled tokens per problem")
        key(figure, axes, len(found))
    results = "; ".join(
        f"{curve.name} {percent(point.accuracy)} for {point.cost:.0f}"
        for curve in found
        for point in (curve.points[0], *curve.points[-1:] * (len(curve.points) > 1))
    )
    caption = (
        "Accuracy over the mean tokens of a problem, with 95 % intervals; further points of an "
        f"agent are votes of its samples. {results} (n = {len(found[0].units)})."
    )
    return Plot(name, "Accuracy at a cost", caption, figure)
