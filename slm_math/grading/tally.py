"""Count verdicts on saved completions as they come, and tell people what they came to."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from slm_math.answers import UNDECIDED
from slm_math.evaluation.plain import plain
from slm_math.grading.scoring import Item, Row
from slm_math.metrics.intervals import clustered, wilson

SHOWN = 10  # examples of what went wrong
SLOWEST = 3


@dataclass
class Group:
    """The samples of one problem: how many, how many right, strictly and when the last number is
    accepted.
    """

    n: int = 0
    right: int = 0
    lenient: int = 0

    def add(self, item: Item) -> None:
        self.n += 1
        self.right += item.correct
        self.lenient += item.lenient


@dataclass
class Tally:
    """Statistics of a stream of rows, small whatever its length.

    A problem is an id, or a row without one; of each id the numbers of samples, right ones and
    broken ones are kept.
    """

    records: bool = False
    last_number: bool = False
    total: Group = field(default_factory=Group)
    changed: int = 0
    unread: int = 0
    twice: int = 0
    first_unread: list[tuple[int, str]] = field(default_factory=list)
    first_twice: list[tuple[int, str]] = field(default_factory=list)
    methods: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    undecided_at: list[int] = field(default_factory=list)
    cut: int = 0
    guessed: int = 0
    slow: list[tuple[float, int, int]] = field(default_factory=list)
    shares: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    groups: dict[str | int | None, Group] = field(default_factory=dict)
    seen: dict[tuple[str | int | None, int], int] = field(default_factory=dict)
    broken: set[tuple[str | int | None, int]] = field(default_factory=set)

    def add(self, row: Row) -> Row:
        """Count a row, and return it; a record that stands twice becomes an error."""
        if row.error is not None:
            self.unread += 1
            self.first_unread = [*self.first_unread, (row.line, row.error)][:SHOWN]
            return row
        if self.records and (first := self._known(row.items[0], row.line)) is not None:
            error = (
                f"sample {row.items[0].sample} of {plain(row.items[0].id)} stands in line {first} "
                f"already"
            )
            self.twice += 1
            self.first_twice = [*self.first_twice, (row.line, error)][:SHOWN]
            return row._replace(error=error)
        if row.items[0].broken is None:
            id = row.items[0].id
            group = Group() if id is None else self.groups.setdefault(id, Group())
            for item in row.items:
                group.add(item)
                self._count(item)
            if id is None:
                self.shares[group.right, group.lenient, group.n] += 1
        return row

    def _known(self, item: Item, line: int) -> int | None:
        """The line in which a record stands already. One that broke may be followed
        by another try.
        """
        key = (item.id, item.sample)
        if key in self.seen and key not in self.broken:
            return self.seen[key]
        self.seen[key] = line
        (self.broken.discard if item.broken is None else self.broken.add)(key)
        return None

    def _count(self, item: Item) -> None:
        self.total.add(item)
        self.changed += item.lenient != item.correct
        self.methods[item.method] += 1
        if not item.correct:
            self.reasons[item.reason] += 1
        if item.reason in UNDECIDED and len(self.undecided_at) < SHOWN:
            self.undecided_at.append(item.line)
        self.cut += item.cut
        self.guessed += item.estimated
        self.slow = heapq.nlargest(SLOWEST, [*self.slow, (item.seconds, item.line, item.sample)])

    def finish(self) -> None:
        """Records that broke and were never tried again count as not right."""
        for id, _ in self.broken:
            self.groups.setdefault(id, Group()).n += 1
            self.total.n += 1
            self.reasons["broken"] += 1
        for group in self.groups.values():
            self.shares[group.right, group.lenient, group.n] += 1

    @property
    def problems(self) -> int:
        return self.shares.total()

    @property
    def undecided(self) -> int:
        return sum(count for reason, count in self.reasons.items() if reason in UNDECIDED)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def accuracy(tally: Tally, lenient: bool = False) -> str:
    """`66.7 % [20.8, 93.9]`: Wilson for one sample a problem, on the spread of problems for
    several.
    """
    right = tally.total.lenient if lenient else tally.total.right
    if tally.total.n == tally.problems:
        low, high = wilson(right, tally.total.n)
    else:
        shares = [(some if lenient else strict) / n for strict, some, n in tally.shares]
        low, high = clustered(shares, list(tally.shares.values()))
    return f"{percent(right / max(tally.total.n, 1))} [{100 * low:.1f}, {100 * high:.1f}]"


def summary(tally: Tally) -> Table:
    """What the verdicts came to, one figure a row."""
    n, problems = max(tally.total.n, 1), tally.problems
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
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
        right = sum(count for (some, _, _), count in tally.shares.items() if some)
        low, high = wilson(right, problems)
        most = max(size for _, _, size in tally.shares)
        rows[f"any of {most} right"] = (
            f"{percent(right / problems)} [{100 * low:.1f}, {100 * high:.1f}]"
        )
    unanswered, hedged = tally.reasons["no answer"] / n, tally.reasons["hedged"] / n
    rows["no answer, hedged"] = f"{percent(unanswered)}, {percent(hedged)}"
    graded = max(tally.methods.total(), 1)
    guess = (
        f" (an estimate for {tally.guessed} of {graded})"
        if 0 < tally.guessed < graded
        else " (an estimate)"
    )
    rows["cut off"] = percent(tally.cut / graded) + (guess if tally.guessed else "")
    rows["answer found by"] = ", ".join(
        f"{name} {percent(k / graded)}" for name, k in tally.methods.most_common()
    )
    rows["not correct"] = (
        ", ".join(f"{plain(reason)} {count}" for reason, count in tally.reasons.most_common())
        or "-"
    )
    several = tally.total.n > problems and not tally.records
    slow = (
        f"line {line}{f', sample {k}' if several else ''} ({_time(seconds)})"
        for seconds, line, k in tally.slow
    )
    rows["slowest"] = "; ".join(slow) or "-"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def tell(tally: Tally, console: Console) -> None:
    """The summary, and aloud: what nobody knows, and what could not be read."""
    console.print(summary(tally), markup=False)
    if tally.undecided:
        kinds = ", ".join(
            f"{reason} {k}" for reason, k in tally.reasons.most_common() if reason in UNDECIDED
        )
        lines = ", ".join(map(str, tally.undecided_at)) + (
            ", ..." if tally.undecided > len(tally.undecided_at) else ""
        )
        say(
            console,
            f"undecided: {tally.undecided} ({kinds}), counted as not correct; in line {lines}",
        )
    if tally.broken:
        say(
            console,
            f"broken: {len(tally.broken)} of the evaluation's samples have no answer, counted as "
            f"not correct",
        )
    if tally.twice:
        say(
            console,
            f"there twice: {tally.twice} record{'s' * (tally.twice != 1)}; the first of each is "
            f"counted",
        )
        for line, error in tally.first_twice:
            say(console, f"  line {line}: {error}")
    tell_unread(tally, console)


def tell_unread(tally: Tally, console: Console) -> None:
    if tally.unread:
        say(
            console,
            f"could not be read: {tally.unread} row{'s' * (tally.unread != 1)}, not counted"
            + _first(tally.unread),
        )
        for line, error in tally.first_unread:
            say(console, f"  line {line}: {plain(error, 300)}")


def _first(count: int) -> str:
    return f"; the first {SHOWN}:" if count > SHOWN else ""


def say(console: Console, text: str) -> None:
    """A line whose parts may be anybody's text."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
