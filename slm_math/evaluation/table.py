"""Tables of evaluation results for people, and the lines below them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from slm_math.evaluation.plain import cell
from slm_math.metrics.summary import Summary
from slm_math.records.files import read_manifest


def results_table(
    title: str,
    summaries: Mapping[str, Summary],
    extra: str = "",
    extra_cells: Mapping[str, str] | None = None,
) -> Table:
    """One row per agent: accuracy with its interval, missing and truncated answers, programs, cost;
    `extra_cells` in a column `extra`.

    Columns that are empty for all agents are left out.
    """
    metrics = {name: summary.metrics for name, summary in summaries.items()}
    columns: dict[str, Mapping[str, str]] = {
        extra: extra_cells or {},
        "no answer": _percents(metrics, "no_answer"),
        "truncated": _percents(metrics, "truncated"),
        "programs ok": {
            name: f"{100 * summary.programs.share_ok:.0f} % of {summary.programs.runs}"
            for name, summary in summaries.items()
            if summary.programs.runs
        },
        "tokens": {name: f"{values['tokens']:.0f}" for name, values in metrics.items()},
    }
    columns = {heading: cells for heading, cells in columns.items() if heading and cells}
    table = Table(title=cell(title, 200), title_justify="left")
    table.add_column("agent", no_wrap=True)
    table.add_column("accuracy, 95 % interval", justify="right", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=heading in (extra, "tokens"))
    for name, summary in summaries.items():
        count = metrics[name]["undecided"]
        broken = f", {summary.errors} broken" if summary.errors else ""
        skipped = f", {metrics[name]['skipped']} skipped" if metrics[name]["skipped"] else ""
        undecided = f", {count} undecided" if count else ""
        row = (cells.get(name, "-") for cells in columns.values())
        table.add_row(cell(name, 200), summary.shown() + broken + skipped + undecided, *row)
    return table


def _percents(metrics: Mapping[str, Mapping[str, float]], metric: str) -> dict[str, str]:
    """A share by agent, for those where it is not 0."""
    return {
        name: f"{100 * values[metric]:.0f} %" for name, values in metrics.items() if values[metric]
    }


def program_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """A line about the programs of every agent that ran some."""
    return [f"{name}: {s.programs.shown()}" for name, s in summaries.items() if s.programs.runs]


def warning_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """What the numbers of an agent do not show, a line each."""
    return [f"warning: {name}: {line}" for name, s in summaries.items() for line in s.warnings]


def metric_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """A line for every agent with several samples per problem, rounds or verdicts."""
    lines = []
    for name, metrics in ((name, summary.metrics) for name, summary in summaries.items()):
        parts = [
            f"{key} {100 * metrics[key]:.1f} [{100 * metrics[f'{key}_low']:.1f}, "
            f"{100 * metrics[f'{key}_high']:.1f}]"
            for key in metrics
            if "@" in key and f"{key}_low" in metrics
        ]
        if "rounds" in metrics:
            shares = (
                f"{key.replace('_', ' ')} {100 * metrics[key]:.1f} %"
                for key in ("first_right", "improved", "degraded")
            )
            parts.append(f"{metrics['rounds']:.1f} rounds, {', '.join(shares)}")
        if "verifier_accuracy" in metrics:
            parts.append(
                f"verdicts that agree with the grader {100 * metrics['verifier_accuracy']:.1f} %"
            )
        if "approves_wrong" in metrics:
            parts.append(f"wrong drafts called CORRECT {100 * metrics['approves_wrong']:.1f} %")
        lines += [f"{name}: {'; '.join(parts)}"] if parts else []
    return lines


def decoding_line(name: str, folder: Path) -> str | None:
    """A line about how well an agent's requests filled the slots of local engines, from its
    manifest; None if no local engine decoded.
    """
    sessions = read_manifest(folder).get("legs", [])
    usage = [values for session in sessions for values in session.get("decoding", [])]
    steps = sum(values["steps"] for values in usage)
    slots = sum(values["steps"] * values["slots"] for values in usage)
    if not steps:
        return None
    tokens = sum(values["tokens"] for values in usage)
    return (
        f"{name}: {tokens:.0f} tokens in {steps:.0f} decode steps, {100 * tokens / slots:.0f} % of "
        f"the slots"
    )
