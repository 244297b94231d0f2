"""Tables of evaluation results for people, and the lines below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from slm_math.evaluation.plain import as_name, cell
from slm_math.metrics.summary import Summary
from slm_math.records.files import read_manifest

WIDTH = 80  # columns of a line
BREAK = "\n"


def results_table(
    title: str,
    summaries: Mapping[str, Summary],
    extra: str = "",
    extra_cells: Mapping[str, str] | None = None,
) -> Table:
    """One row per agent: accuracy with its interval, missing and truncated answers, programs, cost;
    `extra_cells` in a column `extra`.

    Columns that are empty for all agents are left out. Where one line would not fit, intervals
    stand in lines of their own.
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
    names = max(map(len, summaries), default=0)
    longest = max((len(summary.shown()) for summary in summaries.values()), default=0)
    widths = [max(len(heading), *map(len, cells.values())) for heading, cells in columns.items()]
    narrow = sum(widths) + names + longest + 3 * len(widths) + 7 > WIDTH
    table = Table(title=cell(title, 200), title_justify="left")
    if narrow:
        table.box, table.padding = box.SIMPLE_HEAD, (0, 1, 0, 0)
    table.add_column("agent", overflow="fold", min_width=min(names, 20))
    heading = f"accuracy,{BREAK if narrow else ' '}95 % interval"
    table.add_column(heading, justify="right", no_wrap=True)
    for heading in columns:
        longest = max(map(len, heading.split()))
        table.add_column(
            heading, justify="right", min_width=longest, no_wrap=heading in (extra, "tokens")
        )
    for name, summary in summaries.items():
        count = metrics[name]["undecided"]
        broken = f", {summary.errors} broken" if summary.errors else ""
        skipped = f", {metrics[name]['skipped']} skipped" if metrics[name]["skipped"] else ""
        undecided = f", {count} undecided" if count else ""
        row = [cells.get(name, "-") for cells in columns.values()]
        shown = summary.shown() + broken + skipped + undecided
        if narrow:
            shown, *row = (each.replace(" [", f"{BREAK}[", 1) for each in (shown, *row))
            shown = shown.replace("], ", f"]{BREAK}")
        table.add_row(as_name(name), shown, *row)
    return table


def _percents(metrics: Mapping[str, Mapping[str, float]], metric: str) -> dict[str, str]:
    """A share by agent, for those where it is not 0."""
    return {
        name: f"{100 * values[metric]:.0f} %" for name, values in metrics.items() if values[metric]
    }


def program_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """A line about the programs of every agent that ran some."""
    return [f"{name}: {s.programs.shown()}" for name, s in summaries.items() if s.programs.runs]


def summary_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """What stands below a table of results: `metric_lines`, `calibration_lines` and
    `program_lines`.
    """
    parts = (metric_lines, calibration_lines, program_lines)
    return [line for lines in parts for line in lines(summaries)]


def warning_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """What the numbers of an agent do not show, a line each."""
    return [f"warning: {name}: {line}" for name, s in summaries.items() for line in s.warnings]


ROUND_SHARES = {
    "round_1/accuracy": "first draft right",
    "stayed_right": "right at first and in the end",
    "improved": "improved",
    "degraded": "degraded",
}
VERDICT_RATES = {
    "balanced_accuracy": "balanced accuracy",
    "true_positive_rate": "right drafts recognized",
    "true_negative_rate": "wrong drafts recognized",
}


def verdicts_table(summaries: Mapping[str, Summary]) -> Table | None:
    """One row per agent that judged drafts: its rates with their intervals, in per cent; None
    without such an agent.
    """
    judges = {name: s for name, s in summaries.items() if set(VERDICT_RATES) & set(s.intervals)}
    if not judges:
        return None
    table = Table(title="verdicts on drafts in %, 95 % interval", title_justify="left")
    table.add_column("agent", overflow="fold")
    for heading, width in zip((*VERDICT_RATES.values(), "no verdict"), (12, 12, 12, 7)):
        table.add_column(heading, justify="right", min_width=width)
    for name, summary in judges.items():
        rates = [_rate(summary, key) for key in VERDICT_RATES]
        table.add_row(as_name(name), *rates, f"{100 * summary.metrics['no_answer']:.1f}")
    return table


def _rate(summary: Summary, key: str) -> str:
    if key not in summary.intervals:
        return "-"
    low, high, n = summary.intervals[key]
    return f"{100 * summary.metrics[key]:.1f}\n[{100 * low:.1f}, {100 * high:.1f}]\nn = {n}"


def calibration_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """Lines on every agent that judged drafts several times: of the drafts that a share of its
    verdicts calls right, the share that is.
    """
    lines = []
    for name, summary in summaries.items():
        parts = [
            f"{100 * each.share:.0f} %: {100 * each.right:.1f} [{100 * each.low:.1f}, "
            f"{100 * each.high:.1f}], n = {each.n}"
            for each in summary.calibration
        ]
        if parts:
            error, low, high = (
                100 * summary.metrics[f"calibration_error{end}"] for end in ("", "_low", "_high")
            )
            parts.append(f"calibration error {error:.1f} [{low:.1f}, {high:.1f}]")
            title = f"{name}: right drafts in %, by the share of verdicts that say CORRECT:"
            lines += [title, *packed("  ", parts)]
    return lines


def metric_lines(summaries: Mapping[str, Summary]) -> list[str]:
    """Lines on every agent with several samples per problem, rounds, verdicts or choices."""
    lines = []
    for name, summary in summaries.items():
        metrics = summary.metrics
        parts = [
            f"{key} {100 * metrics[key]:.1f} [{100 * metrics[f'{key}_low']:.1f}, "
            f"{100 * metrics[f'{key}_high']:.1f}]"
            for key in metrics
            if "@" in key and f"{key}_low" in metrics
        ]
        if "rounds" in metrics:
            parts.append(f"{metrics['rounds']:.1f} rounds")
            parts += [f"{words} {100 * metrics[key]:.1f} %" for key, words in ROUND_SHARES.items()]
        if "verifier_accuracy" in metrics:
            parts.append(
                f"verdicts that agree with the grader {100 * metrics['verifier_accuracy']:.1f} %"
            )
        if "approves_wrong" in metrics:
            parts.append(f"wrong drafts called CORRECT {100 * metrics['approves_wrong']:.1f} %")
        parts += selection_parts(summaries[name])
        lines += packed(f"{name}: ", parts)
    return lines


def packed(start: str, parts: Sequence[str]) -> list[str]:
    """Parts in as few lines of 80 columns as hold them whole; [] without parts."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len("; ;") + len(part) <= WIDTH:
            lines[-1] += f"; {part}"
        else:
            lines.append(f"  {part}" if lines else f"{start}{part}")
    return [f"{line};" for line in lines[:-1]] + lines[-1:]


def selection_parts(summary: Summary) -> list[str]:
    """How well a selector chose, beside its bound (any candidate) and a vote over the same."""
    names = {
        "oracle": "any candidate right",
        "majority": "their majority right",
        "selection_accuracy": "right choices among right and wrong candidates",
        "selection_majority": "right majorities among the same",
    }
    if "selection_made" not in summary.metrics:
        return []
    return [
        f"{words} {100 * summary.metrics[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}], n = {n}"
        for name, words in names.items()
        if name in summary.intervals
        for low, high, n in [summary.intervals[name]]
    ]


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
