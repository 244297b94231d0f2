"""Counts verdicts on saved completions as they come."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from slm_math.answers import UNDECIDED
from slm_math.evaluation.plain import plain
from slm_math.grading.fields import Fields
from slm_math.grading.problems import Problems
from slm_math.grading.scoring import GradedLine, GradedSample
from slm_math.metrics.disputes import Dispute, Disputes, range_of
from slm_math.metrics.groups import Groups
from slm_math.metrics.intervals import accuracy_of
from slm_math.records.places import Places, digest

SHOWN = 10  # examples of each kind of trouble
SLOWEST = 3


class Group(NamedTuple):
    """Samples, of one problem or all: how many, how many correct, and how many correct when the
    last number is accepted; and of a second opinion, how many correct and how many incorrect ones
    it disputes.
    """

    n: int = 0
    correct: int = 0
    lenient: int = 0
    accepted: int = 0
    rejected: int = 0


@dataclass
class Tally:
    """Statistics of a stream of graded lines, small for any number of lines.

    A problem is an id, without one a text, and without that a line; of each only digests and the
    numbers of samples, correct ones and broken ones are kept. A row with the id, the problem and
    the completion of an earlier row is no further sample: tools that resume write rows twice.
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
    shares: Counter[Group] = field(default_factory=Counter)  # how many problems have these
    groups: Groups = field(default_factory=lambda: Groups(len(Group._fields)))
    seen: Places = field(default_factory=Places)  # records -> line
    known: Problems = field(default_factory=Problems)
    broken: set[tuple[str, int]] = field(default_factory=set)
    rows: Places = field(default_factory=Places)  # what `repeats` says of a row -> line
    disputes: Disputes | None = None  # where a second opinion was asked for

    def add(self, row: GradedLine) -> GradedLine:
        """Counts a line, and returns it; a line that repeats a record becomes an error.

        Raises ValueError for a line of another problem, or with another reference answer, than an
        earlier one that names the same problem.
        """
        first = row.samples[0]
        self.known.check(first)
        if self.records and (line := self._earlier(first, row.line)) is not None:
            error = f"sample {first.sample} of {plain(first.id)} is already in line {line}"
            self.duplicates += 1
            self.first_duplicates = [*self.first_duplicates, (row.line, error)][:SHOWN]
            return row._replace(error=error)
        if not self.records and first.repeats is not None:
            told = tuple([sample.repeats for sample in row.samples])
            line = self.rows.setdefault(digest(told), row.line)
            self.repeated += line != row.line
        if first.broken is None:
            groups = [self._count(sample) for sample in row.samples]
            self.groups.add(first.problem, [sum(column) for column in zip(*groups)])
        return row

    def _earlier(self, sample: GradedSample, line: int) -> int | None:
        """The line that has this record already; a broken record may be followed by another try."""
        key = (sample.problem, sample.sample)
        key_digest = digest(repr(key))
        earlier = self.seen.get(key_digest)
        if earlier is not None and key not in self.broken:
            return earlier
        self.seen.set(key_digest, line)
        (self.broken.discard if sample.broken is None else self.broken.add)(key)
        return None

    def _count(self, sample: GradedSample) -> Group:
        self.changed += sample.lenient != sample.correct
        self.methods[sample.method] += 1
        if not sample.correct:
            self.reasons[sample.reason] += 1
        if sample.reason in UNDECIDED and len(self.undecided_at) < SHOWN:
            self.undecided_at.append(sample.line)
        self.truncated += sample.truncated
        self.estimated += sample.estimated
        disputed = False
        if sample.opinion is not None:
            self.disputes = self.disputes or Disputes()
            disputed = self.disputes.add(
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
        correct = sample.correct
        return Group(
            1,
            correct,
            sample.lenient,
            accepted=disputed and correct,
            rejected=disputed and not correct,
        )

    def finish(self) -> None:
        """Counts records that broke, without a later attempt, as incorrect."""
        for problem, _ in self.broken:
            self.groups.add(problem, Group(n=1))
            self.reasons["broken"] += 1
        for numbers in self.groups:
            self.shares[Group(*numbers)] += 1

    @property
    def total(self) -> Group:
        """All samples, from `finish` on."""
        counts = [[times * one for one in group] for group, times in self.shares.items()]
        return Group(*map(sum, zip(*counts)))

    def accuracy(self, lenient: bool = False) -> tuple[float, float, float]:
        """The mean over problems of their shares of correct samples, with its 95 % interval."""
        known = Counter[float]()
        for group, times in self.shares.items():
            known[(group.lenient if lenient else group.correct) / group.n] += times
        return accuracy_of(list(known), self.total.n, list(known.values()))

    def disputed_range(self) -> tuple[float, float]:
        """The accuracy if every disputed verdict is wrong, and if every one is right."""
        return range_of((*group[:2], *group[3:], times) for group, times in self.shares.items())

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

    def __init__(self, fields: Fields, path: Path) -> None:
        self.fields, self.path = fields, path
        self.by_filter: dict[str | None, Tally] = {}
        self.finished: list[Tally] = []
        self.same: list[str] = []
        self.unread = 0
        self.first_unread: list[tuple[int, str]] = []

    def add(self, row: GradedLine) -> GradedLine:
        """Counts a line, and returns it; a line that repeats a record becomes an error."""
        if row.error is not None:
            self.unread += 1
            self.first_unread = [*self.first_unread, (row.line, row.error)][:SHOWN]
            return row
        name = row.samples[0].filter
        if name not in self.by_filter:
            known = Problems(str(self.path))
            self.by_filter[name] = Tally(
                self.fields.records, self.fields.last_number, name, known=known
            )
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
