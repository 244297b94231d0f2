"""What runs answer without seeing: a table and a figure of runs beside their blind controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slm_math.evaluation.blind import BlindControl, blind_control, read_control
from slm_math.evaluation.compare import adjusted, shown_p
from slm_math.metrics.summary import Summary, summarize
from slm_math.report.accuracy import natural
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


@dataclass(frozen=True)
class Controls:
    """The runs that have a blind control, by name, and why others are not compared with theirs."""

    pairs: Mapping[str, Pair]
    reasons: Mapping[str, str]

    @classmethod
    def of(cls, runs: Sequence[AgentRun]) -> Controls:
        pairs, reasons = {}, {}
        for run in (run for run in runs if run.control is not None):
            assert run.control is not None
            same = run.samples.where(run.samples.also_in(run.control.samples))
            try:
                control = read_control(run.folder, run.cluster)
            except ValueError as error:
                reasons[run.name] = f"{run.name} is not compared: {error}."
            else:
                assert control is not None
                blind = run.control.summary
                pairs[run.name] = Pair(run, summarize(same, tags=False), blind, control)
        return cls(pairs, reasons)

    def among(self, runs: Sequence[AgentRun]) -> list[Pair]:
        return [self.pairs[run.name] for run in runs if run.name in self.pairs]


def blind_table(runs: Sequence[AgentRun], controls: Controls, title: str) -> Table | None:
    """Accuracy with images and with blank ones, and their paired difference, a row for each run;
    None if no run has a control.
    """
    pairs = controls.among(runs)
    reasons = [controls.reasons[run.name] for run in runs if run.name in controls.reasons]
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


def blind_tag_table(
    runs: Sequence[AgentRun], controls: Controls, tag: str, title: str
) -> Table | None:
    """The same by the values of a tag: a row for each value, of each run both accuracies and their
    paired difference; None if no run has a control, or if all its problems have one value.
    """
    pairs = controls.among(runs)
    parts = [_by_value(pair, tag) for pair in pairs]
    values = sorted({value for part in parts for value in part}, key=natural)
    if len(values) < 2:
        return None
    problems = [max(part[v].comparison.problems for part in parts if v in part) for v in values]
    cells = [[_tag_cell(part.get(value)) for part in parts] for value in values]
    rows_of_values = tuple(
        (value, str(n), *row) for value, n, row in zip(values, problems, cells, strict=True)
    )
    note = "Accuracy in % with images, with blank ones: the paired difference, 95 % interval."
    columns = (tag, "n", *(pair.run.name for pair in pairs))
    return Table(title, columns, rows_of_values, note)


def _by_value(pair: Pair, tag: str) -> dict[str, BlindControl]:
    """The control by the values of a tag."""
    assert pair.run.control is not None
    seeing, blind = dict(pair.run.samples.by_tag(tag)), dict(pair.run.control.samples.by_tag(tag))
    return {value: blind_control(seeing[value], own) for value, own in blind.items()}


def _tag_cell(control: BlindControl | None) -> str:
    if control is None:
        return "-"
    blind, seeing = control.comparison.accuracy
    shares = f"{100 * seeing:.1f}, {100 * blind:.1f}"
    return f"{shares}: {control.comparison.shown_difference()}"


def blind_plot(
    runs: Sequence[AgentRun], controls: Controls, places: Mapping[str, int], name: str
) -> Plot | None:
    """Accuracy with images and with blank ones: two bars for each run."""
    pairs = controls.among(runs)
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
