"""What of a run's gain its control arms leave, as a table."""

from __future__ import annotations

from slm_math.evaluation.compare import Comparison, shown_p
from slm_math.evaluation.controls import Arms
from slm_math.report.tables import Table
from slm_math.report.text import line

NOTE = (
    "An arm is the same run from the same weights on the same data, without what there is to learn "
    "from. Gains are since the start, in points with a 95 % interval; gain minus control is the "
    "paired difference of run and arm after equally many batches."
)


def arms_table(run: str, arms: Arms) -> Table:
    """A row for every agent and every arm of a training run."""
    rows = tuple(
        (
            effect.agent,
            effect.arm,
            str(effect.comparison.problems),
            "-" if effect.batches is None else str(effect.batches),
            _points(effect.gain),
            _points(effect.control),
            effect.comparison.shown_difference(),
            shown_p(effect.comparison.p_adjusted),
        )
        for effect in arms.effects
    )
    columns = ("agent", "arm", "n", "batches", "gain", "control", "gain minus control", "p (Holm)")
    notes = [NOTE, *(f"Not compared: {note}." for note in arms.notes)]
    return Table(f"Control arms of {line(run, 60)}", columns, rows, " ".join(notes), names=2)


def _points(gain: Comparison | None) -> str:
    return "-" if gain is None else gain.shown_difference()
