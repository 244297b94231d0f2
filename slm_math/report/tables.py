"""Tables as data, Markdown and LaTeX; the template of the page makes HTML of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slm_math.evaluation.table import VERDICT_RATES
from slm_math.metrics.summary import Summary
from slm_math.report.accuracy import tag_summaries
from slm_math.report.load import AgentRun
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
    """Rows of plain text with the names of their columns. The first `names` columns hold text, the
    others numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: int = 1

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""
        alignments = ["---" if i < self.names else "---:" for i in range(len(self.columns))]
        lines = [
            map(markdown, self.columns),
            alignments,
            *(map(markdown, row) for row in self.rows),
        ]
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
    """Text on one line that Markdown shows literally."""
    return _MARKDOWN.sub(r"\\\1", line(text)).replace("\\<", "&lt;").replace("\\&", "&amp;")


def latex(text: str) -> str:
    """Text on one line that LaTeX shows literally; after the end of a line, LaTeX would take
    brackets for an option.
    """
    return (
        "".join(_LATEX.get(char, char) for char in line(text))
        .replace("[", "{[}")
        .replace("]", "{]}")
    )


def summary_table(runs: Sequence[AgentRun], title: str) -> Table:
    """One row per run, without the columns that are empty for all runs."""
    rows = [_summary_row(run) for run in runs]
    columns = [name for name in rows[0] if any(row[name] not in ("", "-") for row in rows)]
    note = (
        "Intervals are at 95 %: Wilson, or from the variance between problems with several samples."
    )
    return Table(
        title, tuple(columns), tuple(tuple(row[name] for name in columns) for row in rows), note
    )


def _summary_row(run: AgentRun) -> dict[str, str]:
    summary, metrics = run.summary, run.summary.metrics
    sizes = sorted(int(name[5:]) for name in metrics if re.fullmatch(r"pass@\d+", name))
    broken = [f"{summary.errors} broken"] if summary.errors else []
    undecided = [f"{metrics['undecided']:.0f} undecided"] if metrics.get("undecided") else []
    programs = summary.programs
    return {
        "run": run.name,
        "n": str(summary.problems),
        "samples": str(summary.n) if summary.n != summary.problems else "",
        "accuracy %": f"{100 * summary.accuracy:.1f}",
        "interval": f"{100 * summary.low:.1f} \u2013 {100 * summary.high:.1f}",
        **{words: _rate(summary, key) for key, words in VERDICT_RATES.items()},
        "pass@k": f"{100 * metrics[f'pass@{sizes[-1]}']:.1f} (k = {sizes[-1]})" if sizes else "-",
        "any draft correct": _share(metrics, "oracle"),
        "in a box or tag": _share(metrics, "boxed"),
        "no answer": _share(metrics, "no_answer"),
        "truncated": _share(metrics, "truncated"),
        "programs": f"{programs.runs}, {percent(programs.share_ok, 0)} ok"
        if programs.runs
        else "-",
        "tokens": f"{metrics['tokens']:.0f}" if metrics["tokens"] else "-",
        "seconds": f"{summary.seconds:.3g}",
        "note": ", ".join((["partial"] if run.partial else []) + broken + undecided),
    }


def _rate(summary: Summary, name: str) -> str:
    if name not in summary.intervals:
        return "-"
    low, high, n = summary.intervals[name]
    return f"{100 * summary.metrics[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}] (n = {n})"


def _share(metrics: Mapping[str, float], name: str) -> str:
    return percent(metrics[name]) if name in metrics else "-"


def tag_table(runs: Sequence[AgentRun], tag: str, title: str) -> Table:
    """Accuracy with interval by the values of a tag, one column per run."""
    rows = [
        (
            value,
            str(max(summary.problems for summary in row if summary is not None)),
            *(accuracy_cell(summary) for summary in row),
        )
        for value, row in tag_summaries(runs, tag).items()
    ]
    return Table(
        title, (tag, "n", *(run.name for run in runs)), tuple(rows), "Accuracy in %, 95 % interval."
    )


def accuracy_cell(summary: Summary | None) -> str:
    """Accuracy in per cent with its interval."""
    if summary is None:
        return "-"
    return f"{100 * summary.accuracy:.1f} [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"


def metrics_table(runs: Sequence[AgentRun], title: str) -> Table:
    """All metrics of every run, except those by tag, which have tables of their own."""
    metrics = [replace(run.summary, by={}).all_metrics() for run in runs]
    names = dict.fromkeys(
        name for values in metrics for name in values if not name.endswith(("_low", "_high"))
    )
    rows = tuple(
        (name, *(_metric(name, values, run.summary) for values, run in zip(metrics, runs)))
        for name in names
    )
    return Table(title, ("metric", *(run.name for run in runs)), rows)


def _metric(name: str, values: Mapping[str, float], summary: Summary) -> str:
    """A metric, with its 95 % interval if it has one."""
    if name not in values:
        return "-"
    ends = values.get(f"{name}_low"), values.get(f"{name}_high")
    low, high = summary.intervals[name][:2] if name in summary.intervals else ends
    return f"{values[name]:.4g}" + (
        f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None else ""
    )


def shares_table(run: str, parts: Mapping[str, Mapping[str, int]]) -> Table:
    """What a training run's data consists of, and what an epoch draws of each part."""
    total = sum(part["draws"] for part in parts.values())
    rows = tuple(
        (line(name), f"{part['items']}", f"{part['draws']}", percent(part["draws"] / total))
        for name, part in parts.items()
    )
    columns = ("data set", "rows", "draws per epoch", "share")
    return Table(f"Training data of {line(run, 60)}", columns, rows)


def settings_table(run: AgentRun) -> Table:
    """The settings of a run: its manifest, key by key."""
    times = {name: run.manifest.get(name) for name in ("started", "finished")}
    settings = {**times, **run.identity, "environment": run.manifest.get("environment")}
    rows = tuple((name, line(value)) for name, value in _flat(settings) if value is not None)
    return Table(f"{run.name}", ("setting", "value"), rows, names=2)


def _flat(value: object, where: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict) and value:
        return [
            pair
            for key, item in value.items()
            for pair in _flat(item, f"{where}.{key}".lstrip("."))
        ]
    return [(line(where), value)]
