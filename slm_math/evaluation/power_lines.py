"""`slm-math power`: before a run, how many problems and samples it needs, or what it can see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from slm_math.evaluation.clusters import clustered_runs
from slm_math.evaluation.compare_table import with_paired
from slm_math.evaluation.pilot import Pilot, pilot
from slm_math.evaluation.plain import plain, print_line
from slm_math.evaluation.power import POWER, Design
from slm_math.evaluation.runs import load_evaluations
from slm_math.grading.opened import evaluations_of
from slm_math.ranges import as_share, check_whole

GUESS = 0.2  # the discordance of two models of which nothing is known
DIFFERENCES = (0.01, 0.02, 0.03, 0.05, 0.1)
SAMPLES = (1, 2, 4, 8, 16)


def power(
    detect: str | float | None = None,
    pilot: Sequence[str] = (),
    discordance: str | float | None = None,
    problems: int | None = None,
    samples: int = 1,
    cluster: str | None = None,
) -> None:
    """Says how many problems and samples a comparison of two runs needs to see a difference, or the
    smallest difference that a number of problems sees: `slm-math power --detect 2%`.

    Runs are compared as `slm-math compare` does it: problem by problem, two-sided at 5 %, with
    McNemar's exact test for one sample per problem. Seen means with a power of 80 %: of ten such
    comparisons eight have p < 0.05. What matters is the discordance, the share of problems that one
    run solves and the other does not: from two runs of a few problems (a pilot), or a guess.

    Args:
        detect: the difference of accuracies to see: 2% (two points) or 0.02.
        pilot: two evaluations of the same problems, or files of completions, as for `compare`. With
            several samples per problem they also say what more samples bring.
        discordance: a guess instead of a pilot: 20%.
        problems: how many problems there are.
        samples: samples per problem of both runs.
        cluster: a tag of the pilot's problems, or images, whose problems are one unit (see
            `compare`).
    """
    check_whole("problems", problems, low=2, optional=True)
    check_whole("samples", samples)
    difference = None if detect is None else as_share("detect", detect)
    if cluster is not None and not pilot:
        raise ValueError("--cluster needs a pilot, which shows how alike the problems of one are")
    if pilot and discordance is not None:
        raise ValueError("give either --pilot or --discordance: a pilot has its own")
    console = Console()
    if pilot:
        found, notes = read_pilot(pilot, cluster, console)
        designs = found.designs(samples)
        for note in (_pilot_line(found), *notes):
            print_line(console, plain(note, 2000))
    else:
        found = None
        share = max(GUESS, difference or 0.0)  # runs differ on as many problems at least
        if discordance is not None:
            share = as_share("discordance", discordance)
            if difference is not None and difference > share:
                raise ValueError(
                    f"runs that differ on {_percent(share)} % of the problems cannot differ by "
                    f"{_percent(difference)} points: raise --discordance, or lower --detect"
                )
        designs = [Design(samples, share)]
        is_default = " (a guess: --discordance 10%, or --pilot A B)" if discordance is None else ""
        print_line(console, f"discordance {_percent(share)} %{is_default}")
    for line in plan_lines(designs, difference, problems):
        print_line(console, line)
    if difference is None and problems is None:
        console.print(_differences_table(designs))
    elif difference is not None and found is not None and found.variances is not None:
        console.print(_samples_table(found, difference))
    elif samples > 1 and (found is None or found.variances is None):
        print_line(
            console,
            "only a pilot with several samples per problem says what more samples bring: without "
            "one, they are taken to bring nothing",
        )


def read_pilot(
    names: Sequence[str], cluster: str | None, console: Console
) -> tuple[Pilot, list[str]]:
    """The pilot in two folders or files of completions, with clusters as units, and lines on how
    the problems of files were paired. Raises ValueError as `compare` does.
    """
    with evaluations_of(names, console) as paths:
        groups, notes = with_paired(load_evaluations(paths))
        if len(groups) > 1:
            raise ValueError(
                f"{names[0]} holds several agents ({', '.join(groups)}): name the folder of one"
            )
        [(agent, group)] = groups.items()
        runs = clustered_runs(group, cluster)
        return pilot({name: one.samples for name, one in runs.items()}), notes[agent]


def plan_lines(
    designs: Sequence[Design], difference: float | None, problems: int | None
) -> Iterator[str]:
    """What a plan needs and sees, a line each. Of several designs, the first is the estimate, and
    the others are the ends of its interval.
    """
    if difference is not None:
        needed = [design.problems(difference) for design in designs]
        samples = f" x {designs[0].samples} samples" if designs[0].samples > 1 else ""
        yield (
            f"to see {_percent(difference)} points: {_numbers(needed)} problems{samples} "
            f"({100 * POWER:.0f} % power, paired, two-sided 5 %)"
        )
    if problems is not None:
        seen = [design.detectable(problems) for design in designs]
        yield f"{problems:,} problems see {seen_text(seen)} ({100 * POWER:.0f} % power)"
    if difference is not None and problems is not None:
        found = [design.power(problems, difference) for design in designs]
        text = _ends([f"{100 * each:.0f}" for each in (found[0], *sorted(found[1:]))])
        yield f"{problems:,} problems see {_percent(difference)} points with a power of {text} %"


def detect_line(difference: float, problems: int, samples: int, units: int | None = None) -> str:
    """Before an evaluation: whether it is large enough to see a difference, at a discordance of
    20 %. `units` are the templates of the problems, if these are fewer.
    """
    design = Design(samples, GUESS)
    seen, needed = design.detectable(problems), design.problems(difference)
    enough = seen is not None and seen <= difference
    rest = "" if enough else f"; {_percent(difference)} points need {_numbers([needed])} problems"
    alike = ""
    if units is not None and units < problems:
        few = design.detectable(units)
        alike = f"; if the instances of each of {units:,} templates are alike, {seen_text([few])}"
    return (
        f"{'detect' if enough else 'warning'}: {problems:,} problems see {seen_text([seen])} "
        f"between two runs, if they differ on {_percent(GUESS)} % of the problems{rest}{alike} "
        "(slm-math power --pilot A B knows more)"
    )


def seen_text(seen: Sequence[float | None]) -> str:
    texts = ["no difference" if each is None else f"{100 * each:.1f}" for each in seen]
    if seen[0] is None:
        return texts[0]
    return f"differences of at least {_ends(texts)} points"


def _pilot_line(found: Pilot) -> str:
    several = f", {found.samples} samples each" if found.samples > 1 else ""
    design = f", design effect of clusters {found.design:.2f}" if found.design > 1 else ""
    return (
        f"pilot: discordance {_percent(found.discordance)} % [{_percent(found.low)}, "
        f"{_percent(found.high)}], n = {found.problems}{several}{design}"
    )


def _differences_table(designs: Sequence[Design]) -> Table:
    table = Table(title="problems that a comparison needs", title_justify="left")
    table.add_column("difference, points", justify="right")
    table.add_column("problems", justify="right")
    for difference in DIFFERENCES:
        needed = [design.problems(difference) for design in designs]
        table.add_row(_percent(difference), _numbers(needed))
    return table


def _samples_table(found: Pilot, difference: float) -> Table:
    title = f"to see {_percent(difference)} points, by the variances of the pilot"
    table = Table(title=plain(title, 200), title_justify="left")
    for heading in ("samples", "problems", "in all"):
        table.add_column(heading, justify="right")
    for samples in SAMPLES:
        needed = [design.problems(difference) for design in found.designs(samples)]
        total = "-" if needed[0] is None else f"{samples * needed[0]:,}"
        table.add_row(str(samples), _numbers(needed), total)
    return table


def _numbers(needed: Sequence[int | None]) -> str:
    return _ends(["more than 100 million" if each is None else f"{each:,}" for each in needed])


def _ends(texts: Sequence[str]) -> str:
    first, *others = texts
    return f"{first} [{', '.join(others)}]" if others else first


def _percent(share: float) -> str:
    """In per cent, with a decimal; of less than that, with two digits that say something."""
    percent = 100 * share
    return f"{percent:.1f}".removesuffix(".0") if percent >= 0.05 or not share else f"{percent:.2g}"
