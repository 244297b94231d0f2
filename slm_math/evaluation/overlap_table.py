"""`slm-math overlap`: matches between test and training problems, as a table with examples."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slm_math.data.overlap import KINDS, Finding, Overlap, overlap
from slm_math.data.problems import problems_of
from slm_math.evaluation.plain import cell, encodable, plain, print_line
from slm_math.metrics.intervals import wilson
from slm_math.records.files import write_json
from slm_math.types import Problem


def overlap_files(train: str, test: str, show: int = 5, out: str | None = None) -> None:
    """Finds exact, normalized and partial (13-gram) matches between test and training problems.

    Prints the number of test problems with each kind of match, by their closest training problem,
    and examples side by side. A problem of fewer than 13 words matches only as a whole. Near-exact
    matches are the same problem: `fit` refuses to train on near-exact matches of the problems that
    it is evaluated on.

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
    console = Console()
    trained, tested = problems_of(train), problems_of(test)
    result = overlap(_with_progress(trained, console), tested)
    sizes = f"{plain(test, 200)}: {len(tested)} problems; {plain(train, 200)}: {len(trained)}"
    print_line(console, sizes)
    console.print(overlap_table(result))
    for kind in KINDS:
        matches = [finding for finding in result.findings if finding.kind == kind]
        _show(matches, _Problems(trained, tested), show=show, kind=f"{kind}", console=console)
    if out:
        write_json(Path(out), _to_json(result, trained, tested))
        print_line(console, f"written to {out}")


@dataclass(frozen=True)
class _Problems:
    train: Sequence[Problem]
    test: Sequence[Problem]


def overlap_table(result: Overlap) -> Table:
    """The number of test problems with each kind of match, with the 95 % interval of the share
    (Wilson).
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
    closest = closest[:show]
    if not closest:
        return
    table = Table(
        title=f"{kind}: the closest {len(closest)} of {len(matches)}",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("13-grams in it / in all", justify="right", max_width=13)
    for name in ("test", "train"):
        table.add_column(name, overflow="fold", ratio=1)
    for match in closest:
        shares = f"{100 * match.together:.0f} % / {100 * match.anywhere:.0f} %" + (
            "\nnear-exact" if match.near_exact else ""
        )
        pair = (problems.test[match.test], problems.train[match.train])
        table.add_row(
            shares, *(cell(f"{plain(problem.id, 80)}: {problem.text}", 400) for problem in pair)
        )
    console.print(table)


def _with_progress(
    problems: Sequence[Problem], console: Console, patience: float = 2.0
) -> Iterator[Problem]:
    """The problems; on a terminal with a progress bar once they have taken longer than `patience`
    seconds.
    """
    start = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training problems", total=len(problems), visible=False)
        for done, problem in enumerate(problems):
            if done % 256 == 0 and time.monotonic() - start > patience:
                progress.update(task, completed=done, visible=True)
            yield problem


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
                "test": encodable(test[match.test].id),
                "train": encodable(train[match.train].id),
                "kind": match.kind,
                "near_exact": match.near_exact,
                "together": round(match.together, 4),
                "anywhere": round(match.anywhere, 4),
            }
            for match in result.findings
        ],
    }
