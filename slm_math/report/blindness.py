"""What runs answer without seeing: a table and a figure of runs beside their blind controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slm_math.evaluation.blind import read_control
from slm_math.evaluation.compare import adjusted, shown_p
from slm_math.metrics.summary import Summary, summarize
from slm_math.report.drawing import INK, Plot, bars, drawing, face, key, label, rows, shares_axis
from slm_math.report.load import AgentRun
from slm_math.report.tables import Table, accuracy_cell

SEEING, BLIND = "with images", "images blank"


def controlled(runs: Sequence[AgentRun]) -> list[tuple[AgentRun, Summary, Summary]]:
    """Runs that have a blind control, and the summaries of both on the problems of the control."""
    found = []
    for run in runs:
        if run.control is not None and run.control.records:
            asked = {record.id for record in run.control.records}
            same = [record for record in run.records if record.id in asked]
            found += [(run, summarize(same, tags=False), run.control.summary)] if same else []
    return found


def blind_table(runs: Sequence[AgentRun], title: str) -> Table | None:
    """Accuracy with images and with blank ones, and their paired difference, a row for each run;
    None if no run has a control.
    """
    pairs = controlled(runs)
    if not pairs:
        return None
    read, notes = {}, []
    for run, _, _ in pairs:
        try:
            read[run.name] = read_control(run.folder)
        except ValueError as error:
            notes.append(f"{run.name} is not compared: {error}.")
    controls = {name: control for name, control in read.items() if control is not None}
    corrected = adjusted([control.comparison for control in controls.values()])
    tests = dict(zip(controls, corrected, strict=True))
    rows_of_runs = []
    for run, seeing, blind in pairs:
        shares = (f"{seeing.problems}", accuracy_cell(seeing), accuracy_cell(blind))
        if run.name not in tests:
            rows_of_runs.append((run.name, *shares, "-", "-", "-", "-", "-"))
            continue
        one = tests[run.name]
        rows_of_runs.append(
            (
                run.name,
                *shares,
                one.shown_difference(),
                shown_p(one.p_adjusted),
                str(len(one.gained)),
                str(len(one.lost)),
                str(controls[run.name].textual),
            )
        )
    columns = ("run", "n", SEEING, BLIND, "difference in points", "p (Holm)",
               "right only with images", "right only blind", "without images")  # fmt: skip
    note = (
        "The problems with images, asked again with blank images of the same sizes; what is right "
        "then is answered from the text. Accuracy in % with its 95 % interval; the difference is "
        "paired by problem. Problems without images were not asked again."
    )
    return Table(title, columns, tuple(rows_of_runs), " ".join((note, *notes)))


def blind_plot(runs: Sequence[AgentRun], places: Mapping[str, int], name: str) -> Plot | None:
    """Accuracy with images and with blank ones: two bars for each run."""
    pairs = controlled(runs)
    if not pairs:
        return None
    with drawing(1.0 + 0.52 * len(pairs)) as (figure, [axes]):
        for y, (run, *summaries) in enumerate(pairs):
            for shift, summary, arm in zip((-0.2, 0.2), summaries, (SEEING, BLIND), strict=True):
                style = face(places[run.name]) | {"label": arm if y == 0 else None}
                if arm == BLIND:
                    style |= {"hatch": "////", "edgecolor": INK, "alpha": 0.35}
                share = (summary.accuracy, summary.low, summary.high)
                bars(axes, [y + shift], shares=[share], height=0.36, style=style)
        rows(
            axes,
            range(len(pairs)),
            [f"{label(run.name)}\n(n = {s.problems})" for run, s, _ in pairs],
        )
        shares_axis(axes.xaxis, "accuracy on problems with images")
        key(figure, axes, 2)
    results = "; ".join(
        f"{run.name} {seeing.shown()} and {blind.shown()}" for run, seeing, blind in pairs
    )
    caption = f"Accuracy in % with images and with blank ones, 95 % intervals: {results}."
    return Plot(name, "Blind control", caption, figure)
