"""Puts a report together: its sections, the page, and the files of figures and tables."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from rich.console import Console

from slm_math.evaluation.costs import Curve
from slm_math.grading.opened import evaluations_of
from slm_math.ranges import check_number
from slm_math.report.accuracy import (
    by_value,
    over_training,
    overall,
    tags,
    training_metric,
)
from slm_math.report.arms import arms_table
from slm_math.report.blindness import Controls, blind_plot, blind_table, blind_tag_table
from slm_math.report.comparing import comparison_table, seeds_tables
from slm_math.report.composition import composition, training_shares
from slm_math.report.costs import by_cost, cost_table, curves_of
from slm_math.report.drawing import Plot, color
from slm_math.report.load import AgentRun, Material, load
from slm_math.report.memorized import twins_table
from slm_math.report.page import Section, page
from slm_math.report.process import (
    by_round,
    calibration,
    confusions,
    cumulative,
    outcomes,
    verdict_calibration,
)
from slm_math.report.rewards import SHOWN
from slm_math.report.tables import (
    metrics_table,
    settings_table,
    shares_table,
    summary_table,
    tag_table,
)
from slm_math.report.text import line
from slm_math.report.thumbnails import Thumbnails
from slm_math.report.transcripts import browser


def report(
    folders: Sequence[str],
    out: str,
    plots: str | None,
    transcripts: int,
    image_mb: float,
    *,
    filter: str | None = None,
    over_seeds: bool = False,
    cluster: str | None = None,
) -> Path:
    """Writes the report of `folders` to the file `out`, and figures and tables to the folder
    `plots`; `cluster` as in `clustered`.
    """
    check_number("image_mb", image_mb, low=0)
    if transcripts < 0:
        raise ValueError(f"transcripts must be 0 or more, got {transcripts}")
    if Path(out).is_dir():
        raise ValueError(f"{out} is a folder: name a file, such as {Path(out) / 'report.html'}")
    with evaluations_of(folders, Console(), whole_runs=True, filter=filter) as paths:
        options = {"transcripts": transcripts, "image_mb": image_mb, "over_seeds": over_seeds}
        return _report(load(paths, cluster), out, plots, **options)


def _report(
    material: Material,
    out: str,
    plots: str | None,
    *,
    transcripts: int,
    image_mb: float,
    over_seeds: bool,
) -> Path:
    """As `report`, of what was read."""
    groups = grouped(material.runs)
    places = color_places(groups)
    parts = sections(material, groups, places, over_seeds)
    shown_runs = with_controls(material.runs)
    images = Thumbnails(image_mb)
    data = browser(shown_runs, transcripts, images)
    data["colors"] = [
        color(places[run.name]) for run in material.runs for _ in with_controls([run])
    ]
    left_out = "; ".join(data.pop("left_out"))
    shown = (
        f"A selection of the samples is shown: {left_out}. Samples that changed between runs or "
        f"rounds and incorrect ones come first, then an even selection; counts below are "
        f"of what is shown."
        if left_out
        else f"All {len(data['entries'])} samples."
    )
    shown = " ".join(filter(None, (shown, images.note())))
    settings = list(map(settings_table, shown_runs))
    lead = " ".join([_lead(groups), *(f"{note}." for note in material.notes)])
    text = page(_title(groups), lead, parts, settings=settings, shown=shown, data=data)
    for note in material.notes:
        print(note)
    file = Path(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    if plots is not None:
        save(Path(plots), parts)
    return file


def with_controls(runs: Sequence[AgentRun]) -> list[AgentRun]:
    """Runs, each followed by its blind control and its twins."""
    return [e for run in runs for e in (run, run.control, run.twins) if e is not None]


def grouped(runs: Sequence[AgentRun]) -> dict[str, list[AgentRun]]:
    """Runs by their data set: those on the same problems are together, under a name for these."""
    by_data: dict[int, list[AgentRun]] = {}
    for run in runs:
        by_data.setdefault(run.data, []).append(run)
    groups: dict[str, list[AgentRun]] = {}
    for group in by_data.values():
        name = data_name(group)
        same = sum(other == name or other.startswith(f"{name} (") for other in groups)
        groups[f"{name} ({same + 1})" if same else name] = group
    return groups


def color_places(groups: Mapping[str, Sequence[AgentRun]]) -> dict[str, int]:
    """The place of every run among the colors: runs of several groups whose names differ only in
    what all runs of a group have in common are one model on several data sets, and share a color.
    """
    places: dict[str, int] = {}
    order: list[str] = []
    for runs in groups.values():
        names = [run.name.split("/") for run in runs]
        common = len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*names))))
        for run, parts in zip(runs, names, strict=True):
            own = "/".join(parts[common:]) or run.name
            order += [] if own in order else [own]
            places[run.name] = order.index(own)
    return places


def data_name(runs: Sequence[AgentRun]) -> str:
    """The common beginning of the ids of the problems, such as gsm8k/test of `gsm8k/test/17`."""
    ids = (id.split("/")[:-1] for run in runs for id in run.samples.tables.problems)
    shared = next(ids, None)
    if shared is None:
        return "no problems"
    for parts in ids:
        if parts != shared:
            both = takewhile(lambda pair: pair[0] == pair[1], zip(shared, parts))
            shared = [part for part, _ in both]
    return line("/".join(shared), 60) or "the problems"


def sections(
    material: Material,
    groups: Mapping[str, Sequence[AgentRun]],
    places: Mapping[str, int],
    over_seeds: bool = False,
) -> list[Section]:
    """The sections of the page, without empty ones; of runs over seeds, see `seeds_tables`."""
    several = len(groups) > 1

    def titled(text: str, name: str) -> str:
        return f"{text}, {name}" if several else text

    every = {name: with_controls(runs) for name, runs in groups.items()}
    summaries = [summary_table(runs, titled("Results", name)) for name, runs in every.items()]
    metrics = [metrics_table(runs, titled("All metrics", name)) for name, runs in every.items()]
    controls = Controls.of(material.runs)
    blind = [
        blind_table(runs, controls, titled("Blind control", name)) for name, runs in groups.items()
    ]
    twins = [twins_table(runs, titled("Unseen twins", name)) for name, runs in groups.items()]
    blind_by_tags = [
        blind_tag_table(runs, controls, tag, titled(f"Blind control by {tag}", name))
        for name, runs in groups.items()
        for tag in tags(runs)
    ]
    compared = [
        comparison_table(runs, titled("Comparison", name))
        for name, runs in groups.items()
        if len(runs) > 1
    ]
    if over_seeds:
        compared += [table for name, runs in groups.items() for table in seeds_tables(runs, name)]
    costs = {name: found for name, runs in groups.items() if (found := curves_of(runs))}
    by_tags = [
        tag_table(runs, tag, titled(f"Accuracy by {tag}", name))
        for name, runs in groups.items()
        for tag in tags(runs)
    ]
    trained_on = [shares_table(run, parts) for run, parts in material.shares.items()]
    accuracy = _each(groups, partial(_accuracy, places))
    training = list(_training(material, places))
    sections = [
        Section("results", "Results", summaries, folded=metrics),
        Section("comparison", "Comparison", compared),
        Section("controls", "Control arms", [arms_table(*each) for each in material.arms.items()]),
        Section(
            "blind",
            "Blind control",
            [table for table in blind if table is not None],
            plots=_each(groups, partial(_blind, controls, places)),
            folded=[table for table in blind_by_tags if table is not None],
        ),
        Section("twins", "Unseen twins", [table for table in twins if table is not None]),
        Section("training", "Training", trained_on, plots=training),
        Section("accuracy", "Accuracy", plots=accuracy, folded=by_tags),
        Section(
            "process", "Rounds, verdicts, votes", plots=_each(groups, partial(_process, places))
        ),
        Section(
            "cost",
            "Cost",
            [cost_table(found, titled("At equal cost", name)) for name, found in costs.items()],
            plots=_each(groups, partial(_cost, places, list(costs.values()))),
        ),
        Section("data", "Data", plots=_each(groups, _data)),
    ]
    return [section for section in sections if section.tables or section.plots]


def _each(
    groups: Mapping[str, Sequence[AgentRun]],
    of: Callable[[Sequence[AgentRun]], Iterable[Plot | None]],
) -> list[Plot]:
    """The plots of every group of runs; with several groups, name and title say which one."""
    every: list[Plot] = []
    for number, (group, runs) in enumerate(groups.items(), 1):
        plots = [plot for plot in of([run for run in runs if run.samples]) if plot is not None]
        if len(groups) > 1:
            plots = [
                replace(plot, name=f"{plot.name}-{number}", title=f"{plot.title}, {group}")
                for plot in plots
            ]
        every += plots
    return every


def _training(material: Material, places: Mapping[str, int]) -> Iterator[Plot]:
    for unit in ("epochs", "steps"):
        curves = [curve for curve in material.curves if curve.unit == unit]
        if curves:
            yield over_training(curves, places, f"course-{unit}")
    for metric in SHOWN:
        curves = [curve for curve in material.training if curve.metric == metric]
        if curves:
            yield training_metric(curves, metric)
    for number, (run, parts) in enumerate(material.shares.items(), 1):
        yield training_shares(run, parts, f"training-data-{number}")


def _blind(
    controls: Controls, places: Mapping[str, int], runs: Sequence[AgentRun]
) -> Iterator[Plot | None]:
    yield blind_plot(runs, controls, places, "blind-control")


def _accuracy(places: Mapping[str, int], runs: Sequence[AgentRun]) -> Iterator[Plot | None]:
    if runs:
        yield overall(runs, places, "accuracy")
    for tag in tags(runs):
        yield by_value(runs, tag, places, f"accuracy-by-{_file_name(tag)}")


def _process(places: Mapping[str, int], runs: Sequence[AgentRun]) -> Iterator[Plot | None]:
    yield by_round(runs, places, "rounds")
    yield outcomes(runs, "outcomes")
    for run in runs:
        yield from confusions(run, places[run.name], f"verifier-{places[run.name] + 1}")
    yield calibration(runs, places, "votes")
    yield verdict_calibration(runs, places, "verdicts")


def _cost(
    places: Mapping[str, int], costs: Sequence[Sequence[Curve]], runs: Sequence[AgentRun]
) -> Iterator[Plot | None]:
    names = {run.name for run in runs}
    for found in (each for each in costs if each[0].name in names):
        yield by_cost(found, places, "accuracy-by-cost")
    yield cumulative(runs, places, "tokens", lambda samples: samples.turns.sums(1))
    yield cumulative(runs, places, "seconds", lambda samples: samples.seconds)


def _data(runs: Sequence[AgentRun]) -> Iterator[Plot | None]:
    if runs:
        yield composition(max(runs, key=lambda run: run.summary.problems), "data")


def _file_name(text: str) -> str:
    """A tag as part of a file name; different tags give different names."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "", text)[:40]
    return safe if safe == text else f"{safe}{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def _title(groups: Mapping[str, Sequence[AgentRun]]) -> str:
    names = list(groups)
    return f"Evaluation on {', '.join(names[:3])}" + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )


def _lead(groups: Mapping[str, Sequence[AgentRun]]) -> str:
    parts = [
        f"{name}: {max(run.summary.problems for run in runs)} problems, {len(runs)} "
        f"run{'s' * (len(runs) > 1)}"
        for name, runs in groups.items()
    ]
    partial = [run.name for run in (run for runs in groups.values() for run in runs) if run.partial]
    marked = f" Partial, so that numbers may change: {', '.join(partial)}." if partial else ""
    return f"{'; '.join(parts)}. Made on {time.strftime('%Y-%m-%d')}.{marked}"


def save(folder: Path, parts: Sequence[Section]) -> None:
    """Writes every figure as PNG and SVG, and all tables except that of all metrics as Markdown and
    LaTeX.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for plot in (plot for section in parts for plot in section.plots):
        plot.save(folder)
    tables = [
        table
        for section in parts
        for table in (
            *section.tables,
            *(section.folded if section.id in ("accuracy", "blind") else ()),
        )
        if table.rows
    ]
    (folder / "summary.md").write_text(
        "\n".join(table.markdown() for table in tables), encoding="utf-8"
    )
    head = "% needs \\usepackage{booktabs}\n"
    (folder / "summary.tex").write_text(
        head + "\n".join(table.latex() for table in tables), encoding="utf-8"
    )
