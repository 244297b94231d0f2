"""Tables as data, and as Markdown and LaTeX; the page's template makes HTML of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slm_math.metrics.summary import Summary
from slm_math.report.accuracy import tag_summaries
from slm_math.report.load import Run
from slm_math.report.text import line, percent

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "\u2026": r"\dots{}",
    "\u00b1": r"$\pm$",
    "\u2013": "--", "\ufffd": "?", **{c: "\\" + c for c in "&%$#_{}"},
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|$~!&])")


@dataclass(frozen=True)
class Table:
    """Rows of plain text under the names of their columns; columns after the first `names` hold
    numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: int = 1

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""
        marks = ["---" if i < self.names else "---:" for i in range(len(self.columns))]
        lines = [map(markdown, self.columns), marks, *(map(markdown, row) for row in self.rows)]
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        return f"**{markdown(self.title)}**\n\n{table}\n" + (
            f"\n{markdown(self.note)}\n" if self.note else ""
        )

    def latex(self) -> str:
        """A table of LaTeX's package booktabs."""
        kinds = "l" * self.names + "r" * (len(self.columns) - self.names)
        body = [" & ".join(map(latex, row)) + r" \\" for row in self.rows]
        lines = [
            r"\begin{table}", r"\centering",
            rf"\caption{{{latex(f'{self.title}. {self.note}'.strip())}}}",
            rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", " & ".join(map(latex,
            self.columns)) + r" \\", r"\midrule",
            *body, r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def markdown(text: str) -> str:
    """Text of one line that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", line(text)).replace("\\<", "&lt;").replace("\\&", "&amp;")


def latex(text: str) -> str:
    """Text of one line that LaTeX shows as it is; brackets would be read as an option after a
    line's end.
    """
    return (
        "".join(_LATEX.get(char, char) for char in line(text))
        .replace("[", "{[}")
        .replace("]", "{]}")
    )


def summary_table(runs: Sequence[Run], title: str) -> Table:
    """One row per run; what no run has is left out."""
    rows = [_summary_row(run) for run in runs]
    columns = [name for name in rows[0] if any(row[name] not in ("", "-") for row in rows)]
    note = (
        "Intervals are at 95 %: Wilson, or on the spread of problems where they have several "
        "samples."
    )
    return Table(
        title, tuple(columns), tuple(tuple(row[name] for name in columns) for row in rows), note
    )


def _summary_row(run: Run) -> dict[str, str]:
    s, found = run.summary, run.summary.figures
    ks = sorted(
        (name for name in found if re.fullmatch(r"pass@\d+", name)), key=lambda name: int(name[5:])
    )
    broken = [f"{s.errors} broken"] if s.errors else []
    unsettled = [f"{found['undecided']:.0f} undecided"] if found.get("undecided") else []
    return {
        "run": run.name,
        "n": str(s.problems),
        "samples": str(s.n) if s.n != s.problems else "",
        "accuracy %": f"{100 * s.accuracy:.1f}",
        "interval": f"{100 * s.low:.1f} \u2013 {100 * s.high:.1f}",
        "pass@k": f"{100 * found[ks[-1]]:.1f} (k = {ks[-1][5:]})" if ks else "-",
        "any draft right": _share(found, "oracle"),
        "no answer": _share(found, "no_answer"),
        "cut off": _share(found, "truncated"),
        "programs": f"{s.programs.runs}, {percent(s.programs.share_ok, 0)} ran"
        if s.programs.runs
        else "-",
        "tokens": f"{found['tokens']:.0f}",
        "seconds": f"{s.seconds:.3g}",
        "note": ", ".join((["partial"] if run.partial else []) + broken + unsettled),
    }


def _share(found: Mapping[str, float], name: str) -> str:
    return percent(found[name]) if name in found else "-"


def tag_table(runs: Sequence[Run], tag: str, title: str) -> Table:
    """Accuracy with interval by the values of a tag, one column per run."""
    rows = [
        (value, str(max(s.problems for s in row if s is not None)), *(_shown(s) for s in row))
        for value, row in tag_summaries(runs, tag).items()
    ]
    return Table(
        title, (tag, "n", *(run.name for run in runs)), tuple(rows), "Accuracy in %, 95 % interval."
    )


def _shown(s: Summary | None) -> str:
    return "-" if s is None else f"{100 * s.accuracy:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]"


def figures_table(runs: Sequence[Run], title: str) -> Table:
    """Every figure of every run's summary."""
    # by tag there are tables of their own
    values = [replace(run.summary, by={}).values() for run in runs]
    names = dict.fromkeys(
        name for found in values for name in found if not name.endswith(("_low", "_high"))
    )
    rows = tuple(
        (name, *(_figure(name, v, run.summary) for v, run in zip(values, runs))) for name in names
    )
    return Table(title, ("figure", *(run.name for run in runs)), rows)


def _figure(name: str, values: Mapping[str, float], summary: Summary) -> str:
    """A figure with its 95 % interval where it has one."""
    if name not in values:
        return "-"
    ends = values.get(f"{name}_low"), values.get(f"{name}_high")
    low, high = summary.intervals[name][:2] if name in summary.intervals else ends
    return f"{values[name]:.4g}" + (
        f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None else ""
    )


def settings_table(run: Run) -> Table:
    """What made the run what it is: its manifest, key by key."""
    kept = {**run.identity, "environment": run.manifest.get("environment")}
    times = {name: run.manifest.get(name) for name in ("started", "finished")}
    rows = tuple(
        (name, line(value)) for name, value in _flat({**times, **kept}) if value is not None
    )
    return Table(f"{run.name}", ("setting", "value"), rows, names=2)


def _flat(value: object, where: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict) and value:
        return [
            pair
            for key, item in value.items()
            for pair in _flat(item, f"{where}.{key}".lstrip("."))
        ]
    return [(line(where), value)]
