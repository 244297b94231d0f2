"""`slm-math overlap`: matches between test and training problems, as a table with examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from slm_math.data.overlap import KINDS, Finding, Overlap, overlap
from slm_math.data.problems import problems_of
from slm_math.data.templates import TemplateMatch, same_template
from slm_math.evaluation.plain import cell, encodable, plain, print_line
from slm_math.evaluation.progress import with_progress
from slm_math.metrics.intervals import wilson
from slm_math.records.files import write_json
from slm_math.records.outputs import check_output
from slm_math.types import Problem


def overlap_files(train: str, test: str, show: int = 5, out: str | None = None) -> None:
    """Finds exact, normalized and partial (13-gram) matches between test and training problems, and
    training problems that are a test problem with other names and numbers (templates).

    Prints the number of test problems with each kind of match, by their closest training problem,
    and examples side by side. A problem of fewer than 13 words matches only as a whole. Near-exact
    matches are the same problem: `fit` refuses to train on near-exact matches of the problems that
    it is evaluated on. Templates are only shown: GSM8K and MATH have some in common between their
    own splits.

    Args:
        train: a file or folder of problems (JSONL, JSON, Parquet; field problem, question, prompt,
            ... or the first user message of messages), or a source and its split: GSM8K:train,
            MATH:train=/local/copy, my.Source:train.
        test: the problems to look for, given in the same ways.
        show: how many matches of each kind to print.
        out: JSON file for all matches.
    """
    if show < 0:
        raise ValueError(f"show must be 0 or more, got {show}")
    if out:
        check_output("overlap", out, (train, test))
    console = Console()
    trained, tested = problems_of(train), problems_of(test)
    result = overlap(with_progress(trained, console, "training problems"), tested)
    same = {finding.test for finding in result.near_exact}
    templates = [
        match
        for match in same_template(with_progress(trained, console, "templates"), tested)
        if match.test not in same
    ]
    sizes = f"{plain(test, 200)}: {len(tested)} problems; {plain(train, 200)}: {len(trained)}"
    print_line(console, sizes)
    console.print(overlap_table(result, len(templates)))
    for kind in KINDS:
        matches = [finding for finding in result.findings if finding.kind == kind]
        _show(matches, _Problems(trained, tested), show=show, kind=f"{kind}", console=console)
    _show_templates(templates, _Problems(trained, tested), show=show, console=console)
    if out:
        found = _to_json(result, trained, tested)
        found["templates"] = [
            {**_pair_of_ids(match, trained, tested), "shared": round(match.shared, 4)}
            for match in templates
        ]
        write_json(Path(out), found)
        print_line(console, f"written to {out}")


@dataclass(frozen=True)
class _Problems:
    train: Sequence[Problem]
    test: Sequence[Problem]


def overlap_table(result: Overlap, templates: int) -> Table:
    """The number of test problems with each kind of match, with the 95 % interval of the share
    (Wilson); `templates` have only their template in training.
    """
    table = Table(title="test problems with a match in training", title_justify="left")
    table.add_column("match", no_wrap=True)
    table.add_column("problems", justify="right")
    table.add_column("share, 95 % interval", justify="right", no_wrap=True)
    exact, normalized = (result.count(kind) for kind in KINDS[:2])
    counts = {
        "exact": exact,
        "exact or normalized": exact + normalized,
        "any 13 words in a row": len(result.findings),
        "near-exact (fit refuses)": len(result.near_exact),
        "same template, not near-exact": templates,
    }
    for name, count in counts.items():
        low, high = wilson(count, result.problems)
        shown = f"{100 * count / result.problems:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        table.add_row(name, f"{count} of {result.problems}", shown)
    return table


def _show(
    matches: Sequence[Finding], problems: _Problems, show: int, kind: str, console: Console
) -> None:
    """Prints the closest matches of a kind, test and training problem side by side."""
    closest = sorted(matches, key=lambda match: (-match.near_exact, -match.together, match.test))
    shares = [
        f"{100 * match.together:.0f} % / {100 * match.anywhere:.0f} %"
        + ("\nnear-exact" if match.near_exact else "")
        for match in closest
    ]
    title = f"{kind}: the closest {min(show, len(matches))} of {len(matches)}"
    measure = ("13-grams in it / in all", shares[:show])
    _print_pairs(title, measure, closest, problems=problems, console=console)


def _show_templates(
    matches: Sequence[TemplateMatch], problems: _Problems, show: int, console: Console
) -> None:
    closest = sorted(matches, key=lambda match: (-match.shared, match.test))
    shares = [f"{100 * match.shared:.0f} %" for match in closest[:show]]
    title = f"template: the closest {len(shares)} of {len(matches)}"
    _print_pairs(title, ("same words", shares), closest, problems=problems, console=console)


def _print_pairs(
    title: str,
    measure: tuple[str, Sequence[str]],
    matches: Sequence[Finding | TemplateMatch],
    problems: _Problems,
    console: Console,
) -> None:
    """Prints the pairs of problems that were measured: the name of the measure and its values."""
    name, shares = measure
    if not shares:
        return
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column(name, justify="right", max_width=13)
    for side in ("test", "train"):
        table.add_column(side, overflow="fold", ratio=1)
    for share, match in zip(shares, matches):
        pair = (problems.test[match.test], problems.train[match.train])
        shown = (cell(f"{plain(problem.id, 80)}: {problem.text}", 400) for problem in pair)
        table.add_row(share, *shown)
    console.print(table)


def _pair_of_ids(
    match: Finding | TemplateMatch, train: Sequence[Problem], test: Sequence[Problem]
) -> dict[str, object]:
    return {"test": encodable(test[match.test].id), "train": encodable(train[match.train].id)}


def _to_json(
    result: Overlap, train: Sequence[Problem], test: Sequence[Problem]
) -> dict[str, object]:
    return {
        "training_problems": result.trained,
        "test_problems": result.problems,
        "near_exact": len(result.near_exact),
        **{kind: result.count(kind) for kind in KINDS},
        "normalised": result.count("normalized"),  # the old spelling, kept for one version
        "findings": [
            {
                **_pair_of_ids(match, train, test),
                "kind": match.kind,
                "near_exact": match.near_exact,
                "together": round(match.together, 4),
                "anywhere": round(match.anywhere, 4),
            }
            for match in result.findings
        ],
    }
