"""`slm-math overlap`: which test problems are among the training problems, as a table with
examples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from slm_math.data.overlap import KINDS, Finding, Overlap, overlap
from slm_math.data.problems import problems_of
from slm_math.evaluation.plain import cell, encodable, plain
from slm_math.metrics.intervals import wilson
from slm_math.records.files import write_json
from slm_math.types import Problem


def overlap_files(train: str, test: str, show: int = 5, out: str | None = None) -> None:
    """Finds test problems among training problems: exactly, but for printing, or by 13 words in a
    row.

    Prints how many there are of each kind, by the closest training problem, and examples side by
    side. A problem of fewer than 13 words is found only as a whole. Near-exact ones are the same
    problem: `fit` refuses to train on those of its own evaluation.

    Args:
        train: a file or folder of problems (JSONL, JSON, Parquet; field problem, question, prompt,
            ... or the first user message of messages), or a source and its split: GSM8K:train,
            MATH:train=/local/copy, my.Source:train.
        test: the problems to look for, given in the same ways.
        show: how many findings of each kind to print.
        out: JSON file for all findings.
    """
    if show < 0:
        raise ValueError(f"show must be 0 or more, got {show}")
    console = Console()
    trained, tested = problems_of(train), problems_of(test)
    found = overlap(_watched(trained, console), tested)
    told = f"{plain(test, 200)}: {len(tested)} problems; {plain(train, 200)}: {len(trained)}"
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    console.print(overlap_table(found))
    for kind in KINDS:
        _show(
            [finding for finding in found.findings if finding.kind == kind],
            trained,
            tested,
            show,
            kind,
            console,
        )
    if out:
        write_json(Path(out), _data(found, trained, tested))
        console.print(f"written to {out}", markup=False, soft_wrap=True)


def overlap_table(found: Overlap) -> Table:
    """How many test problems there are of each kind, with the share's 95 % interval (Wilson)."""
    table = Table(title="test problems among the training problems", title_justify="left")
    table.add_column("found", no_wrap=True)
    table.add_column("problems", justify="right")
    table.add_column("share, 95 % interval", justify="right", no_wrap=True)
    counts = {kind: found.count(kind) for kind in KINDS}
    counts["normalised"] += counts["exact"]
    rows = {
        "exact": counts["exact"],
        "exact or normalised": counts["normalised"],
        "any 13 words in a row": len(found.findings),
        "near-exact (fit refuses)": len(found.near_exact),
    }
    for name, count in rows.items():
        low, high = wilson(count, found.problems)
        shown = f"{100 * count / found.problems:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        table.add_row(name, f"{count} of {found.problems}", shown)
    return table


def _show(
    findings: Sequence[Finding],
    train: Sequence[Problem],
    test: Sequence[Problem],
    show: int,
    kind: str,
    console: Console,
) -> None:
    """The closest findings of a kind, test and training problem side by side."""
    closest = sorted(findings, key=lambda f: (-f.near_exact, -f.together, f.test))[:show]
    if not closest:
        return
    table = Table(
        title=f"{kind}: the closest {len(closest)} of {len(findings)}",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("13-grams in it / in all", justify="right", max_width=13)
    for name in ("test", "train"):
        table.add_column(name, overflow="fold", ratio=1)
    for f in closest:
        shares = f"{100 * f.together:.0f} % / {100 * f.anywhere:.0f} %" + (
            "\nnear-exact" if f.near_exact else ""
        )
        pair = (test[f.test], train[f.train])
        table.add_row(
            shares, *(cell(f"{plain(problem.id, 80)}: {problem.text}", 400) for problem in pair)
        )
    console.print(table)


def _watched(
    problems: Sequence[Problem], console: Console, patience: float = 2.0
) -> Iterator[Problem]:
    """The problems, with a progress bar on a terminal as soon as it takes longer than `patience`
    seconds.
    """
    start = time.monotonic()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training problems", total=len(problems), visible=False)
        for done, problem in enumerate(problems):
            if done % 256 == 0 and time.monotonic() - start > patience:
                progress.update(task, completed=done, visible=True)
            yield problem


def _data(found: Overlap, train: Sequence[Problem], test: Sequence[Problem]) -> dict[str, object]:
    return {
        "training_problems": found.trained,
        "test_problems": found.problems,
        "near_exact": len(found.near_exact),
        **{kind: found.count(kind) for kind in KINDS},
        "findings": [
            {
                "test": encodable(test[f.test].id),
                "train": encodable(train[f.train].id),
                "kind": f.kind,
                "near_exact": f.near_exact,
                "together": round(f.together, 4),
                "anywhere": round(f.anywhere, 4),
            }
            for f in found.findings
        ],
    }
