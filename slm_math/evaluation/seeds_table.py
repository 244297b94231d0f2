"""`slm-math compare --over seeds`: pairs of runs by seed, and three intervals of their mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slm_math.evaluation.compare import shown_difference, shown_p
from slm_math.evaluation.plain import as_name, cell, encodable, plain, print_line
from slm_math.evaluation.runs import FinishedEvaluation
from slm_math.evaluation.seeds import SeedComparison, compare_seeds, levels, pairs_of
from slm_math.records.files import write_json

FEW = 5  # seeds below which the interval over them is wide


def show_seeds(
    groups: Mapping[str, Mapping[str, FinishedEvaluation]], out: str | None, console: Console
) -> None:
    """Prints the comparison over seeds of every agent, and writes them to `out`."""
    found: dict[str, SeedComparison] = {}
    for agent, runs in groups.items():
        samples = {name: one.samples for name, one in runs.items()}
        seeds = {name: one.manifest["identity"].get("seed") for name, one in runs.items()}
        found[agent] = compare_seeds(pairs_of(samples, seeds))
        console.print(seeds_table(agent, found[agent]))
        for line in seed_lines(found[agent]):
            print_line(console, line)
    if out:
        data = [{"agent": encodable(agent), **asdict(one)} for agent, one in found.items()]
        write_json(Path(out), {"over_seeds": data})
        print_line(console, f"written to {out}")


def seeds_table(agent: str, one: SeedComparison) -> Table:
    """The difference of each pair, in per cent."""
    title = f"{agent}: difference of accuracy in points by seed, {one.problems} problems"
    table = Table(title=cell(title, 200), title_justify="left")
    for heading in ("baseline", "run"):
        table.add_column(heading, overflow="fold")
    table.add_column("difference", justify="right", no_wrap=True)
    for a, b, difference in zip(one.a, one.b, one.differences, strict=True):
        table.add_row(as_name(a), as_name(b), f"{100 * difference:+.1f}")
    return table


def seed_lines(one: SeedComparison) -> list[str]:
    """The mean of the seeds with its intervals, a line each."""
    seeds, n = len(one.differences), one.problems
    lines = [
        f"{plain(name)}: {shown_difference(one.difference, *ends)} points, {seeds} seeds, n = {n}"
        for name, ends in levels(one).items()
    ]
    p = shown_p(one.p)
    lines.append(f"t-test over seeds: p {'' if p.startswith('<') else '= '}{p}")
    if seeds < FEW:
        lines.append(
            f"{seeds} seeds say little about other seeds: their interval is wide, as Student's t "
            f"has {seeds - 1} degree{'s' if seeds > 2 else ''} of freedom"
        )
    return lines
