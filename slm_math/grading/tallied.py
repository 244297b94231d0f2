"""What came of grading saved completions, as people read it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from slm_math.answers import UNDECIDED
from slm_math.evaluation.plain import plain, print_line
from slm_math.grading.tally import SHOWN, Tallies, Tally
from slm_math.metrics.intervals import wilson
from slm_math.metrics.warnings import same_texts_line


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def accuracy(tally: Tally, lenient: bool = False) -> str:
    """`66.7 % [20.8, 93.9]`: the mean over problems, as everywhere; its interval is Wilson's for
    one sample per problem, else that from the variance between problems.
    """
    share, low, high = tally.accuracy(lenient)
    return f"{percent(share)} [{100 * low:.1f}, {100 * high:.1f}]"


def headline(tally: Tally) -> str:
    """The accuracy with the counts that it is made of, as one line."""
    total, n = tally.total, tally.problems
    if total.n == n:
        return f"{total.correct} of {n} correct: {accuracy(tally)}"
    problems = f"{n} problem{'s' * (n != 1)}"
    return f"{total.correct} of {total.n} samples correct; mean over {problems}: {accuracy(tally)}"


def summary_table(tally: Tally) -> Table:
    """What the verdicts amount to, one number per row."""
    n, problems = max(tally.total.n, 1), tally.problems
    rows = {
        "samples": f"{tally.total.n}, of {problems} problems" + _pooled(tally),
        "accuracy, 95 % interval": accuracy(tally),
    }
    if not (tally.records or tally.last_number):
        change = (
            f"{tally.changed} verdict{'s' * (tally.changed != 1)} "
            f"change{'s' * (tally.changed == 1)}"
        )
        rows["if the last number counts"] = f"{accuracy(tally, lenient=True)}, {change}"
    if tally.total.n > problems:
        solved = sum(count for group, count in tally.shares.items() if group.correct)
        low, high = wilson(solved, problems)
        sizes = {group.n for group in tally.shares}
        size = f"{min(sizes)} to {max(sizes)}" if len(sizes) > 1 else f"{max(sizes)}"
        rows[f"any of {size} correct"] = (
            f"{percent(solved / problems)} [{100 * low:.1f}, {100 * high:.1f}]"
        )
    unanswered, hedged = tally.reasons["no answer"] / n, tally.reasons["hedged"] / n
    rows["no answer, hedged"] = f"{percent(unanswered)}, {percent(hedged)}"
    graded = max(tally.methods.total(), 1)
    rows["truncated"] = percent(tally.truncated / graded) + _estimate(tally.estimated, graded)
    rows["form of the answer"] = ", ".join(
        f"{name} {percent(count / graded)}" for name, count in tally.methods.most_common()
    )
    rows["incorrect"] = (
        ", ".join(f"{plain(reason)} {count}" for reason, count in tally.reasons.most_common())
        or "-"
    )
    several = tally.total.n > problems and not tally.records
    slowest = (
        f"line {line}{f', sample {sample}' if several else ''} ({_time(seconds)})"
        for seconds, line, sample in tally.slow
    )
    rows["slowest"] = "; ".join(slowest) or "-"
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _pooled(tally: Tally) -> str:
    """What is said beside the number of samples where problems have different numbers of them."""
    if len({group.n for group in tally.shares}) < 2:
        return ""
    share = percent(tally.total.correct / tally.total.n)
    return f" with different numbers of them; {share} of the samples are correct"


def _estimate(estimated: int, graded: int) -> str:
    """A remark on a number that is estimated for some of the graded samples, or all."""
    if not estimated:
        return ""
    return (
        " (an estimate)" if estimated == graded else f" (an estimate for {estimated} of {graded})"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def print_tally(tally: Tally, console: Console) -> None:
    """Prints the summary, then what is undecided, broken, repeated or unreadable."""
    console.print(summary_table(tally), markup=False)
    if tally.disputes is not None:
        for line in tally.disputes.lines(tally.disputed_range(), tally.total.n):
            print_line(console, plain(line, 400))
    for line in same_texts_line(tally.known.same_texts, tally.problems):
        print_line(console, line)
    if tally.undecided:
        kinds = ", ".join(
            f"{reason} {count}"
            for reason, count in tally.reasons.most_common()
            if reason in UNDECIDED
        )
        lines = ", ".join(map(str, tally.undecided_at)) + (
            ", ..." if tally.undecided > len(tally.undecided_at) else ""
        )
        print_line(
            console,
            f"undecided: {tally.undecided} ({kinds}), counted as incorrect; in line {lines}",
        )
    if tally.broken:
        print_line(
            console,
            f"broken: {len(tally.broken)} of the evaluation's samples have no answer, counted as "
            f"incorrect",
        )
    if tally.duplicates:
        print_line(
            console,
            f"duplicates: {tally.duplicates} record{'s' * (tally.duplicates != 1)}; the first of "
            f"each is counted",
        )
        for line, error in tally.first_duplicates:
            print_line(console, f"  line {line}: {error}")
    if tally.repeated:
        print_line(
            console,
            f"repeated: {tally.repeated} row{'s' * (tally.repeated != 1)} with the id and the "
            "completion of an earlier row, counted as samples that agree: take them out if a tool "
            "wrote them twice",
        )


def print_unread(tally: Tallies, console: Console) -> None:
    """Prints how many rows could not be read, and the first of them."""
    if not tally.unread:
        return
    more = f"; the first {SHOWN}:" if tally.unread > SHOWN else ""
    print_line(
        console,
        f"could not be read: {tally.unread} row{'s' * (tally.unread != 1)}, not counted{more}",
    )
    for line, error in tally.first_unread:
        print_line(console, f"  line {line}: {plain(error, 300)}")
