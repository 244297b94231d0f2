"""The table at the end of the ladder: accuracy with intervals, paired differences, cost, and beside
them what others published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ladder.plan import Plan, Row
from ladder.steps import Steps
from slm_math.evaluation.compare import Comparison, adjusted, compare, shown_p
from slm_math.evaluation.plain import cell, print_line
from slm_math.metrics.summary import Summary, summarize
from slm_math.records.environment import environment
from slm_math.records.files import read_manifest, read_records, write_json
from slm_math.records.record import Record


@dataclass(frozen=True)
class Results:
    """Summaries by data set and row; and by data set, reference and row the paired differences,
    with p corrected by Holm's method for all of them together.
    """

    plan: Plan
    summaries: Mapping[str, Mapping[str, Summary]]
    comparisons: Mapping[str, Mapping[str, Mapping[str, Comparison]]]

    @property
    def number(self) -> int:
        """The number of comparisons."""
        return sum(len(rows) for each in self.comparisons.values() for rows in each.values())


@dataclass(frozen=True)
class Sheet:
    """A table of texts, for a terminal of 80 columns and for Markdown."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        table = Table(title=cell(self.title, 200), title_justify="left", box=box.SIMPLE_HEAD)
        table.pad_edge = table.show_edge = False
        table.padding = (0, 1, 0, 0)
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
        for row in self.rows:
            table.add_row(*(cell(text, 200) for text in row))
        return table

    def markdown(self) -> str:
        rows = [
            self.headings,
            ["---", *("---:" for _ in self.headings[1:])],
            *([text.replace("  ", "&nbsp;&nbsp;") for text in row] for row in self.rows),
        ]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"**{self.title}**\n\n{lines}\n"


def read_results(plan: Plan, folders: Mapping[str, Mapping[str, Path]]) -> Results:
    """The results of a finished ladder; `folders` has those of the records, by data set and row."""
    records = {
        data: {row: read_records(folder / "records.jsonl") for row, folder in rows.items()}
        for data, rows in folders.items()
    }
    pairs = [
        (data, reference, row.name)
        for data in plan.data
        for number, reference in enumerate(plan.references)
        for row in plan.rows
        if row.name not in plan.references[: number + 1]  # each pair once
    ]
    tests = adjusted([_comparison(records[data], a, b) for data, a, b in pairs])
    comparisons: dict[str, dict[str, dict[str, Comparison]]] = {
        data: {reference: {} for reference in plan.references} for data in plan.data
    }
    for (data, reference, row), test in zip(pairs, tests):
        comparisons[data][reference][row] = test
    summaries = {
        data: {row: summarize(some, tags=False) for row, some in rows.items()}
        for data, rows in records.items()
    }
    return Results(plan, summaries, comparisons)


def _comparison(records: Mapping[str, Sequence[Record]], a: str, b: str) -> Comparison:
    [comparison] = compare({a: records[a], b: records[b]})
    return comparison


def sheets(results: Results) -> Iterator[Sheet]:
    """Two tables for every data set."""
    plan, others = results.plan, results.plan.others
    titles = {row.name: f"{row.group} {row.title}".strip() for row in plan.rows}
    for data in plan.data:
        summaries = results.summaries[data]
        accuracy = {}
        for name, summary in summaries.items():
            shown, _, n = summary.shown().partition(", n = ")
            accuracy[name] = [shown, n, f"{summary.metrics['tokens']:.0f}"]
            accuracy[name] += [f"{summary.metrics['turns']:.1f}"]
            if others is not None:
                accuracy[name].append(_pair(others.figures.get(name, {}).get(data)))
        headings = ["accuracy, 95 %", "n", "tokens", "replies"]
        headings += ["others' (*)"] if others is not None else []
        yield Sheet(f"{data}: accuracy in %", ["", *headings], _grouped(plan.rows, accuracy))
        differences = {
            row.name: [_shown(tests.get(row.name)) for tests in results.comparisons[data].values()]
            for row in plan.rows
        }
        headings = [f"to {titles[name]}, 95 %, p" for name in plan.references]
        title = f"{data}: paired differences in points"
        yield Sheet(title, ["", *headings], _grouped(plan.rows, differences))


def time_sheet(results: Results, steps: Steps) -> Sheet:
    """Seconds, which no second run repeats, and which are therefore no part of the table."""
    rows = []
    for step in results.plan.steps:
        done, each = steps.done[step.name], "-"
        if step.row is not None and step.data is not None:
            each = f"{results.summaries[step.data][step.row].seconds:.2f}"
        rows.append([step.name, f"{done.seconds:.0f}", f"{done.cpu_seconds:.0f}", each])
    total = [
        sum(number) for number in zip(*((d.seconds, d.cpu_seconds) for d in steps.done.values()))
    ]
    rows.append(["all", *(f"{number:.0f}" for number in total), ""])
    return Sheet("seconds", ["step", "wall", "processor", "per problem"], rows)


def notes(results: Results) -> list[str]:
    """What the tables mean, a line each."""
    others = results.plan.others
    tests = {
        c.test: 0
        for each in results.comparisons.values()
        for rows in each.values()
        for c in rows.values()
    }
    lines = [
        "Intervals are 95 % and about problems, not about seeds. Differences are paired by problem;"
        f" p ({', '.join(tests)}) is corrected by Holm's method for all {results.number}"
        " comparisons of this page, the intervals are not.",
        "tokens, replies: sampled per problem, all roles together.",
    ]
    for summaries in results.summaries.values():
        lines += [f"{name}: {line}" for name, each in summaries.items() for line in each.warnings]
    if others is not None:
        lines.append(
            f"(*) Not measured here: {others.source}. Published / re-graded from the published"
            " outputs, - where there is none."
        )
    return lines


def write(results: Results, out: Path, seed: int) -> None:
    """`table.md` and `table.json`, which are the same in every run of the ladder on one machine."""
    plan = results.plan
    head = f"# {plan.profile} profile, seed {seed}"
    parts = [head, *(sheet.markdown() for sheet in sheets(results)), *notes(results)]
    write_text(out / "table.md", "\n\n".join(part.rstrip("\n") for part in parts) + "\n")
    write_json(out / "table.json", to_json(results))


def to_json(results: Results) -> dict[str, Any]:
    others = results.plan.others
    return {
        "profile": results.plan.profile,
        "rows": {
            row.name: {
                "title": f"{row.group} {row.title}".strip(),
                "agent": row.agent,
                "model": row.model,
            }
            for row in results.plan.rows
        },
        "data": {
            data: {
                "rows": {name: _row_json(summary) for name, summary in summaries.items()},
                "differences": {
                    reference: {row: _difference_json(test) for row, test in tests.items()}
                    for reference, tests in results.comparisons[data].items()
                },
            }
            for data, summaries in results.summaries.items()
        },
        "comparisons": results.number,
        "of_others": None
        if others is None
        else {
            "source": others.source,
            "model": others.model,
            "published_and_regraded": others.figures,
        },
        "notes": notes(results),
    }


def manifest(results: Results, steps: Steps, choice: Mapping[str, Any]) -> dict[str, Any]:
    """What the table was made with: versions, commit, seed, and hashes of data and models."""
    evaluations = {
        step.name: read_manifest(step.result).get("identity", {})
        for step in results.plan.steps
        if not step.trains
    }
    return {
        **choice,
        "environment": environment(),
        "steps": {
            step.name: {
                "command": step.shown(),
                "fingerprint": steps.marker(step).get("fingerprint"),
                "result": steps.done[step.name].result,
                "seconds": steps.done[step.name].seconds,
                "processor_seconds": steps.done[step.name].cpu_seconds,
                **(
                    {
                        key: evaluations[step.name].get(key)
                        for key in ("data", "problems", "samples", "engines", "grader")
                    }
                    if step.name in evaluations
                    else {}
                ),
            }
            for step in results.plan.steps
        },
    }


def show(results: Results, console: Console) -> None:
    for sheet in sheets(results):
        console.print(sheet.rich())
        console.print()
    for line in notes(results):
        print_line(console, line)


def write_text(path: Path, text: str) -> None:
    """Writes a file completely or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _grouped(rows: Sequence[Row], cells: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The rows with their titles; those of a group are indented below its line."""
    lines: list[list[str]] = []
    group = ""
    for row in rows:
        if row.group and row.group != group:
            lines.append([row.group, *("" for _ in cells[row.name])])
        group = row.group
        lines.append([f"  {row.title}" if group else row.title, *cells[row.name]])
    return lines


def _shown(comparison: Comparison | None) -> str:
    if comparison is None:
        return "-"
    p = shown_p(comparison.p_adjusted).replace(" ", "")
    return f"{comparison.shown_difference()} {p}"


def _pair(figures: Sequence[float | None] | None) -> str:
    if figures is None:
        return "- / -"
    return " / ".join("-" if figure is None else f"{figure:.1f}" for figure in figures)


def _row_json(summary: Summary) -> dict[str, Any]:
    return {
        "accuracy": summary.accuracy,
        "low": summary.low,
        "high": summary.high,
        "n": summary.n,
        "tokens": summary.metrics["tokens"],
        "replies": summary.metrics["turns"],
        "programs": summary.programs.runs / max(summary.n, 1),
        "no_answer": summary.metrics["no_answer"],
    }


def _difference_json(test: Comparison) -> dict[str, Any]:
    return {
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
        "p": test.p,
        "p_holm": test.p_adjusted,
        "gained": len(test.gained),
        "lost": len(test.lost),
        "n": test.problems,
    }
