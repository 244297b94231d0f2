"""What runs know of problems that they do not know of their unseen twins, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.evaluation.compare import adjusted, shown_p
from slm_math.evaluation.twins import read_gap
from slm_math.report.load import AgentRun
from slm_math.report.tables import Table

NOTE = (
    "A twin is a sibling of a problem, of the same template with other numbers. The memorization "
    "gap is the accuracy on problems minus that on their twins, in points, paired by problem, with "
    "a 95 % interval. Accuracy in %."
)


def twins_table(runs: Sequence[AgentRun], title: str) -> Table | None:
    """A row for each run whose twins were evaluated; None if there is none."""
    gaps, reasons = {}, []
    for run in (run for run in runs if run.twins is not None):
        try:
            gap = read_gap(run.folder, run.cluster)
        except ValueError as error:
            reasons.append(f"{run.name} is not compared: {error}.")
        else:
            assert gap is not None
            gaps[run.name] = gap
    if not gaps and not reasons:
        return None
    tested = adjusted([gap.comparison for gap in gaps.values()])
    rows = tuple(
        (
            name,
            str(one.problems),
            *(f"{100 * share:.1f}" for share in reversed(one.accuracy)),
            one.shown_difference(),
            shown_p(one.p_adjusted),
            str(len(one.gained)),
            str(len(one.lost)),
            str(gap.untwinned),
        )
        for (name, gap), one in zip(gaps.items(), tested, strict=True)
    )
    columns = ("run", "n", "problems", "twins", "memorization gap", "p (Holm)",
               "right only on the problem", "right only on the twin", "without a twin")  # fmt: skip
    return Table(title, columns, rows, " ".join((NOTE, *reasons)))
