"""From runs to the report's sections, page and files."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from slm_math.report.accuracy import by_value, composition, course, overall, rewards, tags
from slm_math.report.comparing import comparison_table
from slm_math.report.drawing import Plot, colour
from slm_math.report.load import Material, Run, load
from slm_math.report.page import Section, page
from slm_math.report.process import (
    by_round,
    calibration,
    confusions,
    cumulative,
    outcomes,
    tokens_of,
)
from slm_math.report.tables import figures_table, settings_table, summary_table, tag_table
from slm_math.report.text import line
from slm_math.report.transcripts import browser


def report(folders: Sequence[str], out: str, plots: str | None, transcripts: int) -> Path:
    """Writes the report of `folders` to the file `out`, and figures and tables to the folder
    `plots`.
    """
    if transcripts < 0:
        raise ValueError(f"transcripts must be 0 or more, got {transcripts}")
    if Path(out).is_dir():
        raise ValueError(f"{out} is a folder: name a file, such as {Path(out) / 'report.html'}")
    material = load(folders)
    groups = grouped(material.runs)
    places = {run.name: place for place, run in enumerate(material.runs)}
    found = sections(material, groups, places)
    data = browser(material.runs, transcripts)
    data["colours"] = [colour(place) for place in places.values()]
    left_out = data.pop("left_out")
    told = "; ".join(left_out)
    shown = (
        f"Not all are shown: {told}. Those that changed between runs or rounds and wrong ones "
        f"come first, then an even "
        "sample; counts below are of what is shown."
        if left_out
        else f"All {len(data['entries'])} samples."
    )
    text = page(
        _title(groups), _lead(groups), found, list(map(settings_table, material.runs)), shown, data
    )
    file = Path(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    if plots is not None:
        save(Path(plots), found)
    return file


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by what they were evaluated on: those of the same problems together, under a name for
    these.
    """
    by_data: dict[int, list[Run]] = {}
    for run in runs:
        by_data.setdefault(run.data, []).append(run)
    named: dict[str, list[Run]] = {}
    for found in by_data.values():
        name = data_name(found)
        same = sum(other == name or other.startswith(f"{name} (") for other in named)
        named[f"{name} ({same + 1})" if same else name] = found
    return named


def data_name(runs: Sequence[Run]) -> str:
    """What the ids of the problems have in common, as in `gsm8k/test/17`."""
    ids = [str(row["id"]).split("/")[:-1] for run in runs for row in run.records]
    if not ids:
        return "no problems"
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*ids))
    return line("/".join(parts[0] for parts in shared), 60) or "the problems"


def sections(
    material: Material, groups: Mapping[str, Sequence[Run]], places: Mapping[str, int]
) -> list[Section]:
    """The parts of the page, without those that would be empty."""
    several = len(groups) > 1

    def titled(text: str, name: str) -> str:
        return f"{text}, {name}" if several else text

    summaries = [summary_table(runs, titled("Results", name)) for name, runs in groups.items()]
    figures = [figures_table(runs, titled("All figures", name)) for name, runs in groups.items()]
    compared = [
        comparison_table(runs, titled("Comparison", name))
        for name, runs in groups.items()
        if len(runs) > 1
    ]
    parts = [
        tag_table(runs, tag, titled(f"Accuracy by {tag}", name))
        for name, runs in groups.items()
        for tag in tags(runs)
    ]
    found = [
        Section("results", "Results", summaries, folded=figures),
        Section("comparison", "Comparison", compared),
        Section("training", "In training", plots=list(_training(material, places))),
        Section(
            "accuracy", "Accuracy", plots=_each(groups, partial(_accuracy, places)), folded=parts
        ),
        Section("process", "On the way", plots=_each(groups, partial(_process, places))),
        Section("cost", "Cost", plots=_each(groups, partial(_cost, places))),
        Section("data", "Data", plots=_each(groups, _data)),
    ]
    return [section for section in found if section.tables or section.plots]


def _each(
    groups: Mapping[str, Sequence[Run]], of: Callable[[Sequence[Run]], Iterable[Plot | None]]
) -> list[Plot]:
    """The plots of every group of runs that has some, told apart by name and title."""
    found = []
    for number, (group, runs) in enumerate(groups.items(), 1):
        plots = [plot for plot in of([run for run in runs if run.records]) if plot is not None]
        several = len(groups) > 1
        found += [
            replace(plot, name=f"{plot.name}-{number}", title=f"{plot.title}, {group}")
            if several
            else plot
            for plot in plots
        ]
    return found


def _training(material: Material, places: Mapping[str, int]) -> Iterator[Plot]:
    for unit in ("epochs", "steps"):
        curves = [curve for curve in material.curves if curve.unit == unit]
        if curves:
            yield course(curves, places, f"course-{unit}")
    if material.rewards:
        yield rewards(material.rewards, "reward")


def _accuracy(places: Mapping[str, int], runs: Sequence[Run]) -> Iterator[Plot | None]:
    if runs:
        yield overall(runs, places, "accuracy")
    for tag in tags(runs):
        yield by_value(runs, tag, places, f"accuracy-by-{_file_name(tag)}")


def _process(places: Mapping[str, int], runs: Sequence[Run]) -> Iterator[Plot | None]:
    yield by_round(runs, places, "rounds")
    yield outcomes(runs, "outcomes")
    for run in runs:
        yield from confusions(run, places[run.name], f"verifier-{places[run.name] + 1}")
    yield calibration(runs, places, "votes")


def _cost(places: Mapping[str, int], runs: Sequence[Run]) -> Iterator[Plot | None]:
    yield cumulative(runs, places, "tokens", "tokens", tokens_of)
    yield cumulative(runs, places, "seconds", "seconds", lambda row: row["seconds"])


def _data(runs: Sequence[Run]) -> Iterator[Plot | None]:
    if runs:
        yield composition(max(runs, key=lambda run: run.summary.problems), "data")


def _file_name(text: str) -> str:
    """A part of a file's name; two tags that come to the same are told apart."""
    kept = re.sub(r"[^A-Za-z0-9_-]", "", text)[:40]
    return kept if kept == text else f"{kept}{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def _title(groups: Mapping[str, Sequence[Run]]) -> str:
    names = list(groups)
    return f"Evaluation on {', '.join(names[:3])}" + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )


def _lead(groups: Mapping[str, Sequence[Run]]) -> str:
    told = [
        f"{name}: {max(run.summary.problems for run in runs)} problems, {len(runs)} "
        f"run{'s' * (len(runs) > 1)}"
        for name, runs in groups.items()
    ]
    partial = [run.name for run in (run for runs in groups.values() for run in runs) if run.partial]
    marked = f" Partial, so that numbers may change: {', '.join(partial)}." if partial else ""
    return f"{'; '.join(told)}. Made on {time.strftime('%Y-%m-%d')}.{marked}"


def save(folder: Path, found: Sequence[Section]) -> None:
    """Writes every figure as PNG and SVG, and all tables but the folded figures as Markdown and
    LaTeX.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for plot in (plot for section in found for plot in section.plots):
        plot.save(folder)
    kept = [
        table
        for section in found
        for table in (*section.tables, *(section.folded if section.id == "accuracy" else ()))
        if table.rows
    ]
    (folder / "summary.md").write_text(
        "\n".join(table.markdown() for table in kept), encoding="utf-8"
    )
    head = "% needs \\usepackage{booktabs}\n"
    (folder / "summary.tex").write_text(
        head + "\n".join(table.latex() for table in kept), encoding="utf-8"
    )
