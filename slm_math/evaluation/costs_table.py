"""`slm-math results --over cost`: agents at equal cost, as a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from slm_math.evaluation.compare import shown_difference, shown_p
from slm_math.evaluation.costs import AtEqualCost, Curve, Spending, at_equal_cost, curves
from slm_math.evaluation.plain import cell, plain
from slm_math.metrics.columns import Samples

TITLES = ("agent", "votes", "tokens", "accuracy in %", "at equal cost", "p (Holm)")


def costs_table(runs: Mapping[str, Samples], prompt_weight: float = 0.0) -> tuple[Table, list[str]]:
    """The table of runs on the same problems, of which the first is the baseline, and the lines
    below it.
    """
    found = curves(runs, prompt_weight)
    rows = at_equal_cost(found)
    n = len(found[0].units)
    title = f"accuracy against tokens, {n} problems, 95 % intervals"
    table = Table(title=title, title_justify="left")
    table.add_column(TITLES[0], overflow="fold")
    for heading in TITLES[1:]:
        table.add_column(heading, justify="right", no_wrap=heading != TITLES[-1])
    for row in cost_rows(found, rows):
        table.add_row(cell(row[0], 200), *row[1:])
    return table, [*cost_lines(found, rows), *cost_notes(found, prompt_weight)]


def cost_rows(found: Sequence[Curve], rows: Sequence[AtEqualCost]) -> Iterator[tuple[str, ...]]:
    """The cells of every point, those of the baseline first."""
    for point in found[0].points:
        yield (found[0].name, *_point(point), "baseline", "")
    for row in rows:
        against, p = "too few tokens", ""
        if row.baseline is not None:
            against = shown_difference(row.difference, row.low, row.high)
            p = shown_p(row.p_adjusted)
        yield row.name, *_point(row.point), against, p


def _point(point: Spending) -> tuple[str, str, str]:
    ends = f"[{100 * point.low:.1f}, {100 * point.high:.1f}]"
    votes = str(point.votes) if point.votes > 1 else "-"
    return votes, f"{point.cost:.0f}", f"{100 * point.accuracy:.1f} {ends}"


def cost_lines(found: Sequence[Curve], rows: Sequence[AtEqualCost]) -> list[str]:
    """From how many tokens on each agent is worth them, a line each."""
    return [_worth_line(one.name, [row for row in rows if row.name == one.name], found[0].name)
            for one in found[1:]]  # fmt: skip


def _worth_line(name: str, rows: Sequence[AtEqualCost], baseline: str) -> str:
    name, baseline = plain(name, 200), plain(baseline, 200)
    better = [row for row in rows if row.is_worth_it]
    if better:
        first = better[0]
        difference = shown_difference(first.difference, first.low, first.high)
        return (
            f"{name} is worth its tokens from {first.point.cost:.0f} a problem on: {difference} "
            f"points against {baseline} at equal cost"
        )
    cheaper = [row for row in rows if row.baseline is None]
    if cheaper:
        return (
            f"{name} costs {cheaper[0].point.cost:.0f} tokens a problem, which is less than any "
            f"answer of {baseline}: {100 * cheaper[0].point.accuracy:.1f} % are right"
        )
    return f"{name} is not shown to be worth its tokens against {baseline}, at no cost"


def cost_notes(found: Sequence[Curve], prompt_weight: float) -> list[str]:
    """What the numbers do not show."""
    counted = f" and {prompt_weight:g} x the tokens of prompts" if prompt_weight else ""
    notes = [
        f"tokens: sampled ones{counted}, mean of a problem; a vote ends once it is decided "
        "(MajorityVote.stop)"
    ]
    alone = [plain(one.name, 200) for one in found if len(one.points) == 1]
    if found[0].name in alone:
        notes.append(
            f"{alone[0]} has too few samples of each problem to vote, so more tokens bring it "
            "nothing here: evaluate it with --samples 5 or more, at a temperature above 0"
        )
    return notes
