"""`slm-math results --over cost`: agents at equal cost, as a table and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table

from slm_math.evaluation.compare import shown_difference, shown_p
from slm_math.evaluation.costs import AtEqualCost, Curve, Spending, at_equal_cost, curves
from slm_math.evaluation.plain import as_name, plain
from slm_math.metrics.columns import Samples

TITLES = ("agent", "tokens", "votes", "accuracy in %", "at equal cost", "p (Holm)")


def costs_table(runs: Mapping[str, Samples], prompt_weight: float = 0.0) -> tuple[Table, list[str]]:
    """The table of runs on the same problems, of which the first is the baseline, and the lines
    below it.
    """
    found = curves(runs, prompt_weight)
    rows = at_equal_cost(found)
    n = len(found[0].units)
    title = f"accuracy against tokens, {n} problems, 95 % intervals"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(TITLES[0], overflow="fold")
    for heading in TITLES[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in cost_rows(found, rows):
        table.add_row(as_name(row[0]), *row[1:])
    return table, [*cost_lines(found, rows), *cost_notes(found, prompt_weight)]


def cost_rows(found: Sequence[Curve], rows: Sequence[AtEqualCost]) -> Iterator[tuple[str, ...]]:
    """The cells of the baseline's points, and of every other agent at equal cost; the name of an
    agent stands in its first row.
    """
    name = ""
    for point in found[0].points:
        own = found[0].name if not name else ""
        name = found[0].name
        yield own, f"{point.cost:.0f}", *_point(point), "baseline", ""
    for row in rows:
        against, p = "too few tokens", ""
        if row.baseline is not None:
            against = shown_difference(row.difference, row.low, row.high)
            p = shown_p(row.p_adjusted)
        own = row.name if row.name != name else ""
        name = row.name
        cells = ("", f"{100 * row.accuracy:.1f}") if row.point is None else _point(row.point)
        yield own, f"{row.budget:.0f}", *cells, against, p


def _point(point: Spending) -> tuple[str, str]:
    ends = f"[{100 * point.low:.1f}, {100 * point.high:.1f}]"
    return str(point.votes) if point.votes > 1 else "-", f"{100 * point.accuracy:.1f} {ends}"


def cost_lines(found: Sequence[Curve], rows: Sequence[AtEqualCost]) -> list[str]:
    """From how many tokens on each agent is worth them, a line each."""
    baseline = plain(found[0].name, 200)
    return [
        f"{plain(one.name, 200)} {_worth([row for row in rows if row.name == one.name], baseline)}"
        for one in found[1:]
    ]


def _worth(rows: Sequence[AtEqualCost], baseline: str) -> str:
    better = [row.better for row in rows]
    if 1 in better:
        begins = better.index(1)
        ends = next((n for n in range(begins, len(rows)) if better[n] != 1), len(rows))
        first, last = rows[begins], rows[ends - 1]
        difference = shown_difference(first.difference, first.low, first.high)
        where = f"from {first.budget:.0f} a problem on"
        if ends < len(rows):
            to = f" to {last.budget:.0f}" if last is not first else ""
            beyond = f"{rows[ends].budget:.0f}"
            where = f"at {first.budget:.0f}{to} a problem, and not shown to be at {beyond}"
        return f"is worth its tokens {where}: {difference} points against {baseline}"
    if -1 in better:
        row = rows[better.index(-1)]
        difference = shown_difference(row.difference, row.low, row.high)
        return (
            f"is worse than {baseline} for {row.budget:.0f} tokens a problem: {difference} points"
        )
    return f"is not shown to be worth its tokens against {baseline}, at any cost"


def cost_notes(found: Sequence[Curve], prompt_weight: float) -> list[str]:
    """What the numbers do not show."""
    counted = f" and {prompt_weight:g} x the tokens of prompts" if prompt_weight else ""
    notes = [
        f"where votes has nothing, the budget is that of a point of {plain(found[0].name, 200)}"
    ] * any(len(one.points) > 1 for one in found[:1])
    notes += [
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
