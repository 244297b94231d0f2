"""The comparison of runs as a table."""

from __future__ import annotations

from collections.abc import Sequence

from slm_math.metrics.columns import Samples
from slm_math.records.run_folder import CONTROLS
from slm_math.report.load import AgentRun
from slm_math.report.tables import Table


def comparison_table(runs: Sequence[AgentRun], title: str) -> Table:
    """Every complete run against the first one, and against the first one of the same agent, paired
    by problem. If they cannot be compared, the table has no rows, and its note says why.
    """
    from slm_math.evaluation.compare import adjusted, compare, shown_p
    from slm_math.evaluation.outcomes import flips_lines

    columns = (
        "run",
        "against",
        "n",
        "difference in points",
        "p",
        "p (Holm)",
        "gained",
        "lost",
        "could see",
    )
    methods = [run for run in runs if CONTROLS not in run.folder.parts]
    arms = len(methods) > 1 and len(runs) > len(methods)
    if arms:  # no methods: what is left of a gain without them has a section of its own
        runs = methods
    complete = [run for run in runs if not run.partial]
    left_out = ["Control arms are left out."] if arms else []
    left_out += [f"{run.name} is partial and left out." for run in runs if run.partial]
    graders = {grader for run in complete if (grader := _grader(run)) is not None}
    if len(graders) > 1:
        versions = ", ".join(sorted(graders))
        return Table(
            title,
            columns,
            (),
            f"Not compared: graded by different versions ({versions}); grade them again.",
        )
    try:
        comparisons = adjusted([one for some in _baselines(complete) for one in compare(some)])
    except ValueError as error:
        return Table(title, columns, (), " ".join((f"Not compared: {error}", *left_out)))
    order = [run.name for run in complete]
    comparisons.sort(key=lambda one: order.index(one.b))
    rows = [
        (
            one.b,
            one.a,
            str(one.problems),
            one.shown_difference(),
            shown_p(one.p),
            shown_p(one.p_adjusted),
            str(len(one.gained)),
            str(len(one.lost)),
            "-" if one.detectable is None else f"{100 * one.detectable:.1f}",
        )
        for one in comparisons
    ]
    flips = [f"{line[0].upper()}{line[1:]}." for line in flips_lines(r.samples for r in complete)]
    tests = ", ".join(sorted({one.test for one in comparisons}))
    note = (
        f"Paired by problem; difference with its 95 % interval; test: {tests}, two-sided. Could "
        "see: the smallest difference, in points, for which this comparison has a power of 80 %."
    )
    return Table(title, columns, tuple(rows), " ".join((note, *flips, *left_out)), names=2)


def seeds_tables(runs: Sequence[AgentRun], name: str) -> list[Table]:
    """For every agent its runs over seeds: of the baseline, and as many of the method. Where an
    agent has too few of them, the method is another agent, and all runs are compared. If they
    cannot be, the table has no rows, and its note says why.
    """
    from slm_math.evaluation.compare import shown_difference, shown_p
    from slm_math.evaluation.seeds import compare_seeds, levels, pairs_of

    agents: dict[str, list[AgentRun]] = {}
    for run in runs:
        agents.setdefault(run.folder.resolve().name, []).append(run)
    if any(len(own) < 4 for own in agents.values()):
        agents = {", ".join(agents): list(runs)}
    tables = []
    for agent, own in agents.items():
        title, columns = f"Over seeds: {agent}, {name}", ("what", "seeds", "n", "points", "p")
        samples = {run.name: run.samples for run in own}
        try:
            one = compare_seeds(
                pairs_of(samples, {run.name: run.identity.get("seed") for run in own})
            )
        except ValueError as error:
            tables.append(Table(title, columns, (), f"Not compared: {error}"))
            continue
        seeds, n = str(len(one.differences)), str(one.problems)
        rows = tuple(
            (what, seeds, n, shown_difference(one.difference, *ends), p)
            for (what, ends), p in zip(levels(one).items(), ("", shown_p(one.p), ""), strict=True)
        )
        each = ", ".join(f"{100 * difference:+.1f}" for difference in one.differences)
        note = (
            f"Difference of accuracy, {' + '.join(one.b)} against {' + '.join(one.a)}, with 95 % "
            f"intervals; of each seed: {each}. p: t-test over seeds."
        )
        tables.append(Table(title, columns, rows, note))
    return tables


def _baselines(runs: Sequence[AgentRun]) -> list[dict[str, Samples]]:
    """Runs to compare with the first of each: all of them, and of each agent its own ones, of which
    those with the first run of all are in the first place already.
    """
    agents: dict[str, list[AgentRun]] = {}
    for run in runs:
        agents.setdefault(run.folder.resolve().name, []).append(run)
    groups = [runs, *(some for some in agents.values() if some[0] is not runs[0] and some[1:])]
    return [{run.name: run.samples for run in some} for some in groups]


def _grader(run: AgentRun) -> str | None:
    environment = run.manifest.get("environment")
    return (
        str(environment["grader"])
        if isinstance(environment, dict) and "grader" in environment
        else None
    )
