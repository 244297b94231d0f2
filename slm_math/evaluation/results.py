"""`slm-math results`: evaluations side by side, or against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slm_math.evaluation.blind import control_lines
from slm_math.evaluation.clusters import clustered, units_lines
from slm_math.evaluation.controls import arm_lines
from slm_math.evaluation.costs_table import costs_table
from slm_math.evaluation.plain import as_name, cell, path_lines, plain, print_line
from slm_math.evaluation.runs import check_grader, columns_of, read_finished
from slm_math.evaluation.table import calibration_lines, verdicts_table, warning_lines
from slm_math.evaluation.twins import gap_lines
from slm_math.grading.opened import evaluations_of
from slm_math.metrics.summary import Summary, by_tag, read_summary
from slm_math.ranges import check_number
from slm_math.records.eval_folders import BESIDE, run_of
from slm_math.records.files import read_manifest


def results(
    folders: Sequence[str],
    by: str | None = None,
    over: Literal["cost"] | None = None,
    prompt_weight: float = 0.0,
    filter: str | None = None,
    cluster: str | None = None,
) -> None:
    """Prints the results of evaluations side by side: one column per folder, one row per agent.

    Args:
        folders: output folders of `slm-math eval`, training runs (their last evaluation),
            `eval/<epoch>` folders of them, or a folder that holds several of these; or files of
            completions, as `grade` reads them.
        by: also break the results down by this tag of the problems.
        over: with "cost", accuracy against tokens instead: all agents on the same problems, each
            compared with the first one at equal cost. Agents with several samples of a problem
            have votes of 3, 5, ... of them as well.
        prompt_weight: of "cost", what a token of a prompt costs, as a share of a sampled one.
        filter: of files of lm-eval, the filter whose rows count (strict-match): what it left of the
            replies is graded.
        cluster: a tag of the problems, or images: problems with the same value are one unit of
            intervals and tests, by default the instances of a template, as in `compare`.
    """
    console = Console()
    check_number("prompt_weight", prompt_weight, low=0)
    with evaluations_of(folders, console, filter=filter) as paths:
        if over == "cost":
            _over_cost(paths, prompt_weight, cluster, console)
        else:
            _results(paths, by, cluster, console)


def _over_cost(
    folders: Mapping[str, Path], prompt_weight: float, cluster: str | None, console: Console
) -> None:
    """As `results --over cost`, of folders by their names."""
    columns = columns_of(folders)
    places = {
        name if len(columns) == 1 else f"{holder}/{name}": path
        for holder, column in columns.items()
        for name, path in column.items()
        if not name.endswith(BESIDE)  # twins and blind controls are of other problems
    }
    runs = {name: read_finished(name, path) for name, path in places.items()}
    check_grader(list(runs.values()))
    samples = {name: clustered(one.samples, cluster) for name, one in runs.items()}
    table, lines = costs_table(samples, prompt_weight)
    console.print(table)
    for line in (*lines, *units_lines(next(iter(samples.values())))):
        print_line(console, plain(line, 2000))


def _results(
    folders: Mapping[str, Path], by: str | None, cluster: str | None, console: Console
) -> None:
    """As `results`, of folders by their names."""
    columns: dict[str, dict[str, Summary]] = {}
    paths: dict[str, Path] = {}
    units, told = partial(clustered, cluster=cluster), dict[str, None]()
    holders = columns_of(folders)
    for folder, places in holders.items():
        column = columns.setdefault(folder, {})
        for name, path in places.items():
            paths[name if len(holders) == 1 else f"{folder}/{name}"] = path
            samples, column[name] = read_summary(path, units)
            told |= dict.fromkeys(units_lines(samples))
            if read_manifest(path).get("partial"):
                print_line(console, f"{path} is partial")
            if by:
                parts = by_tag(samples, by)
                if not parts:
                    raise ValueError(f"no problem of {folder} has a tag {by}")
                column |= {f"{name}, {value}": summary for value, summary in parts.items()}
    width = 26 if len(columns) < 3 else 18  # with n in the same line, or below
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    every_one = list(columns.items())
    fit = max((console.width - 12) // (width + 3), 1)
    for start in range(0, len(every_one), fit):  # the rest in a table below
        some = dict(every_one[start : start + fit])
        more = "" if not start else ", continued"
        table = Table(title=f"accuracy in %, 95 % interval{more}", title_justify="left")
        rest = console.width - 4 - (width + 3) * len(some)
        table.add_column("agent", overflow="fold", max_width=max(rest, 8))
        for folder in some:
            head = Text("\n").join(cell(line, 200) for line in path_lines(folder, width))
            table.add_column(head, justify="right", min_width=width, overflow="fold")
        for name in names:
            shown = (column[name].shown() if name in column else "-" for column in some.values())
            below = width < 26  # an interval with its n is longer
            cells = (each.replace(", n = ", "\nn = ") if below else each for each in shown)
            table.add_row(as_name(name), *cells)
        console.print(table)
    every = {
        name if len(columns) == 1 else f"{folder}/{name}": summary
        for folder, column in columns.items()
        for name, summary in column.items()
    }
    if verdicts := verdicts_table(every):
        console.print(verdicts)
    roots = [root for root in map(run_of, folders.values()) if root is not None]
    arms = [line for root in roots for line in arm_lines(root, cluster)]
    lines = (
        *control_lines(paths, cluster),
        *gap_lines(paths, cluster),
        *arms,
        *calibration_lines(every),
        *told,
    )
    for line in lines:
        print_line(console, plain(line, 2000))
    for column in columns.values():
        for line in warning_lines(column):
            console.print(line, markup=False)
