"""The comparison of runs as a table."""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.report.load import Run
from slm_math.report.tables import Table


def comparison_table(runs: Sequence[Run], title: str) -> Table:
    """Every whole run against the first one, paired on problems; where that cannot be, no rows but
    the reason.
    """
    from slm_math.evaluation.compare import compare, shown_p

    columns = ("run", "against", "n", "difference in points", "p", "p (Holm)", "gained", "lost")
    whole = [run for run in runs if not run.partial]
    left_out = [f"{run.name} is partial and left out." for run in runs if run.partial]
    graders = {found for run in whole if (found := _grader(run)) is not None}
    if len(graders) > 1:
        told = ", ".join(sorted(graders))
        return Table(
            title,
            columns,
            (),
            f"Not compared: graded by different versions ({told}); grade them again.",
        )
    try:
        found = compare({run.name: run.records for run in whole})
    except ValueError as error:
        return Table(title, columns, (), " ".join((f"Not compared: {error}", *left_out)))
    rows = []
    for c in found:
        tested = c.shown_difference(), shown_p(c.p), shown_p(c.p_adjusted)
        rows.append((c.b, c.a, str(c.problems), *tested, str(len(c.gained)), str(len(c.lost))))
    tests = ", ".join(sorted({c.test for c in found}))
    note = f"Paired on problems; difference with its 95 % interval; test: {tests}, two-sided."
    return Table(title, columns, tuple(rows), " ".join((note, *left_out)), names=2)


def _grader(run: Run) -> str | None:
    environment = run.manifest.get("environment")
    return (
        str(environment["grader"])
        if isinstance(environment, dict) and "grader" in environment
        else None
    )
