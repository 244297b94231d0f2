"""Counts verdicts on saved completions as they come, and prints the result."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from slm_math.answers import UNDECIDED
from slm_math.evaluation.plain import plain, print_line
from slm_math.grading.fields import Fields
from slm_math.grading.scoring import GradedLine, GradedSample
from slm_math.metrics.disputes import Dispute, Disputes
from slm_math.metrics.groups import Groups
from slm_math.metrics.intervals import clustered, wilson
from slm_math.records.places import Places, digest

SHOWN = 10  # examples of each kind of trouble
SLOWEST = 3


class Group(NamedTuple):
    """Samples, of one problem or all: how many, how many correct, and how many correct when the
    last number is accepted.
    """

    n: int = 0
    correct: int = 0
    lenient: int = 0


@dataclass
class Tally:
    """Statistics of a stream of graded lines, small for any number of lines.

    A problem is an id, or a line without one; of each id only a digest and the numbers of samples,
    correct ones and broken ones are kept. A row with the id, the problem and the completion of an
    earlier row is no further sample: tools that resume write rows twice.
    """

    records: bool = False
    last_number: bool = False
    filter: str | None = None
    changed: int = 0
    duplicates: int = 0
    repeated: int = 0
    first_duplicates: list[tuple[int, str]] = field(default_factory=list)
    methods: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    undecided_at: list[int] = field(default_factory=list)
    truncated: int = 0
    estimated: int = 0
    slow: list[tuple[float, int, int]] = field(default_factory=list)
    shares: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    groups: Groups = field(default_factory=lambda: Groups(3))
    seen: Places = field(default_factory=Places)  # records -> line
    broken: set[tuple[str | int | None, int]] = field(default_factory=set)
    rows: Places = field(default_factory=Places)  # what `repeats` says of a row -> line
    disputes: Disputes | None = None  # where a second opinion was asked for

    def add(self, row: GradedLine) -> GradedLine:
        """Counts a line, and returns it; a line that repeats an earlier one becomes an error."""
        first = row.samples[0]
        if self.records and (line := self._earlier(first, row.line)) is not None:
            error = f"sample {first.sample} of {plain(first.id)} is already in line {line}"
            self.duplicates += 1
            self.first_duplicates = [*self.first_duplicates, (row.line, error)][:SHOWN]
            return row._replace(error=error)
        if not self.records and first.repeats is not None:
            told = tuple([sample.repeats for sample in row.samples])
            line = self.rows.setdefault(digest(told), row.line)
            if line != row.line:
                self.repeated += 1
                return row._replace(error=f"the same id and completion as in line {line}")
        if first.broken is None:
            correct = lenient = 0
            for sample in row.samples:
                correct += sample.correct
                lenient += sample.lenient
                self._count(sample)
            group = Group(len(row.samples), correct, lenient)
            if first.id is None:
                self.shares[group.correct, group.lenient, group.n] += 1
            else:
                self.groups.add(first.id, group)
        return row

    def _earlier(self, sample: GradedSample, line: int) -> int | None:
        """The line that has this record already; a broken record may be followed by another try."""
        key = (sample.id, sample.sample)
        key_digest = digest(repr(key))
        earlier = self.seen.get(key_digest)
        if earlier is not None and key not in self.broken:
            return earlier
        self.seen.set(key_digest, line)
        (self.broken.discard if sample.broken is None else self.broken.add)(key)
        return None

    def _count(self, sample: GradedSample) -> None:
        self.changed += sample.lenient != sample.correct
        self.methods[sample.method] += 1
        if not sample.correct:
            self.reasons[sample.reason] += 1
        if sample.reason in UNDECIDED and len(self.undecided_at) < SHOWN:
            self.undecided_at.append(sample.line)
        self.truncated += sample.truncated
        self.estimated += sample.estimated
        if sample.opinion is not None:
            self.disputes = self.disputes or Disputes()
            self.disputes.add(
                Dispute(
                    f"line {sample.line}",
                    answer=sample.answer or "",
                    gold=sample.gold,
                    correct=sample.correct,
                    reason=sample.reason,
                    opinion=sample.opinion,
                )
            )
        if len(self.slow) < SLOWEST or sample.seconds >= self.slow[-1][0]:
            slow = (sample.seconds, sample.line, sample.sample)
            self.slow = heapq.nlargest(SLOWEST, [*self.slow, slow])

    def finish(self) -> None:
        """Counts records that broke, without a later attempt, as incorrect."""
        for id, _ in self.broken:
            self.groups.add(id, Group(n=1))
            self.reasons["broken"] += 1
        for n, correct, lenient in self.groups:
            self.shares[correct, lenient, n] += 1

    @property
    def total(self) -> Group:
        """All samples; those of problems with an id from `finish` on."""
        n = correct = lenient = 0
        for (own_correct, own_lenient, size), times in self.shares.items():
            n += times * size
            correct += times * own_correct
            lenient += times * own_lenient
        return Group(n, correct, lenient)

    @property
    def problems(self) -> int:
        return self.shares.total()

    @property
    def undecided(self) -> int:
        return sum(count for reason, count in self.reasons.items() if reason in UNDECIDED)


class Tallies:
    """A tally for each filter of an lm-eval file, whose rows hold every problem once per filter;
    one tally for any other file.

    Where filters left the completions as they are, only the first filter counts, and `same` names
    them all. `unread` counts the rows that could not be read.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self.by_filter: dict[str | None, Tally] = {}
        self.finished: list[Tally] = []
        self.same: list[str] = []
        self.unread = 0
        self.first_unread: list[tuple[int, str]] = []

    def add(self, row: GradedLine) -> GradedLine:
        """Counts a line, and returns it; a line that repeats an earlier one becomes an error."""
        if row.error is not None:
            self.unread += 1
            self.first_unread = [*self.first_unread, (row.line, row.error)][:SHOWN]
            return row
        name = row.samples[0].filter
        if name not in self.by_filter:
            self.by_filter[name] = Tally(self.fields.records, self.fields.last_number, name)
        return self.by_filter[name].add(row)

    def finish(self) -> list[Tally]:
        """The tallies to report, after the last line."""
        first: dict[int, Tally] = {}
        for tally in self.by_filter.values():
            tally.finish()
            completions = tally.rows.total if tally.filter is not None else 0
            if not completions or completions not in first:
                self.finished.append(tally)
            first.setdefault(completions, tally)
        if len(self.by_filter) > len(self.finished) == 1:
            self.same = [str(name) for name in self.by_filter]
        return self.finished

    @property
    def graded(self) -> bool:
        return bool(self.by_filter)

    @property
    def several(self) -> bool:
        return len(self.finished) > 1

    @property
    def first_error(self) -> str:
        line, error = next(iter(self.first_unread), (0, "nothing"))
        return f"{line}: {error}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def accuracy(tally: Tally, lenient: bool = False) -> str:
    """`66.7 % [20.8, 93.9]`: Wilson's interval for one sample per problem, else that from the
    variance between problems.
    """
    correct = tally.total.lenient if lenient else tally.total.correct
    if tally.total.n == tally.problems:
        low, high = wilson(correct, tally.total.n)
    else:
        shares = [(accepted if lenient else strict) / n for strict, accepted, n in tally.shares]
        low, high = clustered(shares, list(tally.shares.values()))
    return f"{percent(correct / max(tally.total.n, 1))} [{100 * low:.1f}, {100 * high:.1f}]"


def summary_table(tally: Tally) -> Table:
    """What the verdicts amount to, one number per row."""
    n, problems = max(tally.total.n, 1), tally.problems
    rows = {
        "samples": f"{tally.total.n}, of {problems} problems",
        "accuracy, 95 % interval": accuracy(tally),
    }
    if not (tally.records or tally.last_number):
        change = (
            f"{tally.changed} verdict{'s' * (tally.changed != 1)} "
            f"change{'s' * (tally.changed == 1)}"
        )
        rows["if the last number counts"] = f"{accuracy(tally, lenient=True)}, {change}"
    if tally.total.n > problems:
        solved = sum(count for (correct, _, _), count in tally.shares.items() if correct)
        low, high = wilson(solved, problems)
        most = max(size for _, _, size in tally.shares)
        rows[f"any of {most} correct"] = (
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
        for line in tally.disputes.lines(tally.total.correct, tally.total.n):
            print_line(console, plain(line, 400))
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
            "completion of an earlier row, counted once",
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
