"""What runs answer without seeing: a table and a figure of runs beside their blind controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slm_math.evaluation.blind import BlindControl, read_control
from slm_math.evaluation.compare import adjusted, shown_p
from slm_math.metrics.summary import Summary, summarize
from slm_math.report.drawing import INK, Plot, bars, drawing, face, key, label, rows, shares_axis
from slm_math.report.load import AgentRun
from slm_math.report.tables import Table, accuracy_cell

SEEING, BLIND = "with images", "images blank"


@dataclass(frozen=True)
class Pair:
    """A run and its control, and the summaries of both on the problems of the control."""

    run: AgentRun
    seeing: Summary
    blind: Summary
    control: BlindControl


def pairs_of(runs: Sequence[AgentRun]) -> tuple[list[Pair], list[str]]:
    """The runs that have a blind control, and why others are not compared with theirs."""
    pairs, reasons = [], []
    for run in runs:
        if run.control is None:
            continue
        asked = {record.id for record in run.control.records}
        same = [record for record in run.records if record.id in asked]
        try:
            control = read_control(run.folder)
        except ValueError as error:
            reasons.append(f"{run.name} is not compared: {error}.")
        else:
            assert control is not None
            pairs.append(Pair(run, summarize(same, tags=False), run.control.summary, control))
    return pairs, reasons


def blind_table(runs: Sequence[AgentRun], title: str) -> Table | None:
    """Accuracy with images and with blank ones, and their paired difference, a row for each run;
    None if no run has a control.
    """
    pairs, reasons = pairs_of(runs)
    if not pairs and not reasons:
        return None
    tested = adjusted([pair.control.comparison for pair in pairs])
    rows_of_runs = tuple(
        (
            pair.run.name,
            f"{pair.seeing.problems}",
            accuracy_cell(pair.seeing),
            accuracy_cell(pair.blind),
            one.shown_difference(),
            shown_p(one.p_adjusted),
            str(len(one.gained)),
            str(len(one.lost)),
            str(pair.control.textual),
        )
        for pair, one in zip(pairs, tested, strict=True)
    )
    columns = ("run", "n", SEEING, BLIND, "difference in points", "p (Holm)",
               "right only with images", "right only blind", "not asked again")  # fmt: skip
    note = (
        "The problems with images, asked again with blank images of the same sizes; what is right "
        "then is answered from the text. Accuracy in % with its 95 % interval; the difference is "
        "paired by problem. Problems without images were not asked again."
    )
    return Table(title, columns, rows_of_runs, " ".join((note, *reasons)))


def blind_plot(runs: Sequence[AgentRun], places: Mapping[str, int], name: str) -> Plot | None:
    """Accuracy with images and with blank ones: two bars for each run."""
    pairs, _ = pairs_of(runs)
    if not pairs:
        return None
    with drawing(1.0 + 0.52 * len(pairs)) as (figure, [axes]):
        for y, pair in enumerate(pairs):
            arms = ((-0.2, SEEING, pair.seeing), (0.2, BLIND, pair.blind))
            for shift, arm, summary in arms:
                style = face(places[pair.run.name]) | {"label": arm if y == 0 else None}
                if arm == BLIND:
                    style |= {"hatch": "////", "edgecolor": INK, "alpha": 0.35}
                share = (summary.accuracy, summary.low, summary.high)
                bars(axes, [y + shift], shares=[share], height=0.36, style=style)
        names = [f"{label(pair.run.name)}\n(n = {pair.seeing.problems})" for pair in pairs]
        rows(axes, range(len(pairs)), names)
        shares_axis(axes.xaxis, "accuracy on problems with images")
        key(figure, axes, 2)
    results = "; ".join(
        f"{pair.run.name} {pair.seeing.shown()} and {pair.blind.shown()}" for pair in pairs
    )
    caption = f"Accuracy in % with images and with blank ones, 95 % intervals: {results}."
    return Plot(name, "Blind control", caption, figure)
