"""Tables of evaluation results for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from slm_math.evaluation.metrics import Summary


def results_table(title: str, rows: Mapping[str, Summary]) -> Table:
    """One row per agent: accuracy with interval, what went missing, programs, cost."""
    table = Table(title=title, title_justify="left")
    table.add_column("agent")
    for name in ("accuracy, 95 % interval", "no answer", "cut off", "programs ran", "tokens", "turns"):
        table.add_column(name, justify="right")
    for name, s in rows.items():
        table.add_row(
            name,
            s.shown() + (f", {s.errors} broken" if s.errors else ""),
            f"{100 * s.no_answer:.1f} %",
            f"{100 * s.truncated:.1f} %",
            f"{100 * s.programs_ran:.1f} % of {s.programs}" if s.programs else "-",
            f"{s.tokens:.0f}",
            f"{s.turns:.1f}",
        )
    return table
