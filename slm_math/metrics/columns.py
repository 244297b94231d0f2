"""What metrics, tables and tests need of records, as columns: some 50 bytes a sample, and 75 more a
problem.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np

from slm_math.metrics.facts import Facts, Judgment, facts, judgments, solved_problem
from slm_math.metrics.programs import Program, program
from slm_math.metrics.selection import selection
from slm_math.records.names import Names
from slm_math.records.record import Record

T = TypeVar("T", bound=Hashable)
MISSING = float("-inf")  # a reward that a sample does not have
_OWN_UNIT = 1 << 31  # marks units that are not the problem itself


class Codes(Generic[T]):
    """Different values, each with a number, of which there are few."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def column(self, of: Callable[[T], float | None]) -> np.ndarray:
        """A number for every value, (len,) float64; NaN for None."""
        column = [of(value) for value in self.values]
        return np.array([np.nan if one is None else one for one in column], dtype=float)


@dataclass(frozen=True)
class Ragged:
    """Any number of values of each sample: of one after the other, as columns of one length.
    `counts` is by sample.
    """

    counts: np.ndarray
    columns: tuple[np.ndarray, ...]

    def of(self, rows: np.ndarray) -> Ragged:
        """The values of some samples."""
        ends = np.cumsum(self.counts, dtype=np.int64)
        counts = self.counts[rows]
        starts = ends[rows] - counts
        firsts = np.cumsum(counts, dtype=np.int64) - counts
        places = np.repeat(starts - firsts, counts) + np.arange(int(counts.sum(dtype=np.int64)))
        return Ragged(counts, tuple(column[places] for column in self.columns))

    @property
    def rows(self) -> np.ndarray:
        """The sample that each value belongs to."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def sums(self, column: int) -> np.ndarray:
        """The sum of a column's values of each sample."""
        return np.bincount(self.rows, weights=self.columns[column], minlength=len(self.counts))


@dataclass(frozen=True)
class Tables:
    """What the columns of samples refer to, by number."""

    kinds: Codes[Facts] = field(default_factory=Codes)
    problems: Names = field(default_factory=Names)
    units: Names = field(default_factory=Names)
    answers: Names = field(default_factory=Names)
    errors: Names = field(default_factory=Names)
    tag_values: Names = field(default_factory=Names)
    roles: Codes[str] = field(default_factory=Codes)
    programs: Codes[Program] = field(default_factory=Codes)
    judgments: Codes[Judgment] = field(default_factory=Codes)
    rules: array[int] = field(default_factory=lambda: array("q"))  # digests, by problem
    shown: array[int] = field(default_factory=lambda: array("q"))  # of its images


@dataclass(frozen=True)
class Samples:
    """Samples as columns, in order. What is not there is read again from the `records`.

    Args:
        records: all records, of which `rows` says where those of these samples are.
        tables: what numbers stand for.
        kinds, problems, answers: numbers in these tables; of answers, 0 is none.
        units: the solved problem, which is the unit of independent observations: the number of the
            problem, or of `tables.units`.
        seconds: of the sample.
        turns: role (twice its number, and 1 if it ended by itself) and tokens.
        runs: number of the program, and seconds.
        judgments: their numbers.
        errors: the number of the error of each broken or skipped sample.
        tags: by tag, 1 more than the number of its value; 0 without one.
        rewards: by role and part ("" is the whole reward), NaN where it was not scored.
    """

    records: Sequence[Record]
    rows: np.ndarray
    tables: Tables
    kinds: np.ndarray
    problems: np.ndarray
    units: np.ndarray
    answers: np.ndarray
    seconds: np.ndarray
    turns: Ragged
    runs: Ragged
    judgments: Ragged
    errors: Ragged
    tags: Mapping[str, np.ndarray]
    rewards: Mapping[tuple[str, str], np.ndarray]

    @classmethod
    def of(cls, records: Samples | Iterable[Record]) -> Samples:
        """The columns of records; each is looked at once and not kept. Columns stay as they are."""
        if isinstance(records, Samples):
            return records
        kept = records if isinstance(records, Sequence) else list(records)
        return _Builder(kept).samples()

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, place: int) -> Record:
        """The whole record of a sample, read again."""
        return self.records[int(self.rows[place])]

    def where(self, chosen: np.ndarray) -> Samples:
        """Those of the samples that a mask or places choose."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        columns = ("rows", "kinds", "problems", "units", "answers", "seconds")
        ragged = ("turns", "runs", "judgments", "errors")
        return replace(
            self,
            **{name: getattr(self, name)[places] for name in columns},
            **{name: getattr(self, name).of(places) for name in ragged},
            tags={tag: column[places] for tag, column in self.tags.items()},
            rewards={name: column[places] for name, column in self.rewards.items()},
        )

    def counted(self) -> list[tuple[Facts, int]]:
        """The different facts in the order in which they first occur, with how often they do."""
        numbers, counts = counted(self.kinds)
        return [(self.tables.kinds.values[one], n) for one, n in zip(numbers, counts)]

    def fact(self, of: Callable[[Facts], float | None]) -> np.ndarray:
        """A number for every sample, of its facts, (N,) float64; NaN for None."""
        return self.tables.kinds.column(of)[self.kinds]

    def total(self, of: Callable[[Facts], float]) -> int | float:
        """The sum of a number of the facts."""
        return sum(of(one) * n for one, n in self.counted())

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """`grouped` problems."""
        return grouped(self.problems)

    def by_tag(self, tag: str) -> Iterator[tuple[str, Samples]]:
        """The samples with each value of a tag, by value in order."""
        column = self.tags.get(tag)
        if column is None:
            return
        order = np.argsort(column, kind="stable")
        numbers, starts = np.unique(column[order], return_index=True)
        parts = zip(numbers.tolist(), np.split(order, starts[1:]))
        named = {self.tables.tag_values[one - 1]: places for one, places in parts if one}
        for value, places in sorted(named.items()):
            yield value, self.where(places)

    def tag_values(self, tag: str) -> set[str]:
        """The different values of a tag."""
        numbers = np.unique(self.tags[tag]).tolist() if tag in self.tags else []
        return {self.tables.tag_values[one - 1] for one in numbers if one}

    def error_counts(self, of: Callable[[Facts], bool]) -> Counter[str]:
        """How often each error occurs among samples, in order."""
        chosen = self.fact(of)[self.errors.rows] > 0
        numbers, counts = counted(self.errors.columns[0][chosen])
        return Counter({self.tables.errors[one]: n for one, n in zip(numbers, counts)})

    def unit_name(self, unit: int) -> str:
        """The name of a unit: the id of a problem, or that of the one that drafts solve."""
        tables = self.tables
        return tables.units[unit ^ _OWN_UNIT] if unit & _OWN_UNIT else tables.problems[unit]

    def answer(self, place: int) -> str | None:
        """The answer of a sample."""
        number = int(self.answers[place])
        return self.tables.answers[number - 1] if number else None


def in_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different values in the order in which they first occur, and for every value its number
    among these.
    """
    different, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return different[order], numbers[inverse]


def counted(values: np.ndarray) -> tuple[list[int], list[int]]:
    """The different numbers in the order in which they first occur, and how often they do."""
    different, firsts, counts = np.unique(values, return_index=True, return_counts=True)
    order = np.argsort(firsts)
    return different[order].tolist(), counts[order].tolist()


def grouped(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places of equal values, group after group in the order in which they first occur, and
    where in them each group starts, and an end.
    """
    different, numbers = in_order(values)
    sizes = np.bincount(numbers, minlength=len(different))
    return np.argsort(numbers, kind="stable"), np.concatenate(([0], np.cumsum(sizes)))


class _Builder:
    """Makes columns of records, one after the other."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records, self.tables = records, Tables()
        self.kinds, self.problems, self.answers = array("I"), array("I"), array("I")
        self.units, self.seconds = array("I"), array("d")
        self.turns = array("I"), array("I"), array("d")  # counts, and columns
        self.runs = array("I"), array("I"), array("d")
        self.judgments, self.errors = (array("I"), array("I")), (array("B"), array("I"))
        self.tags: dict[str, array[int]] = {}
        self.rewards: dict[tuple[str, str], array[float]] = {}
        self.undecided = array("I")  # samples whose majority nobody has found out

    def samples(self) -> Samples:
        n = 0
        for n, record in enumerate(self.records, 1):
            self._add(record, n - 1)
        self._find_majorities()
        for column in self.tags.values():
            column.extend([0] * (n - len(column)))
        for column in self.rewards.values():
            column.extend([MISSING] * (n - len(column)))
        return Samples(
            records=self.records,
            rows=np.arange(n, dtype=np.uint32),
            tables=self.tables,
            kinds=_column(self.kinds),
            problems=_column(self.problems),
            units=_column(self.units),
            answers=_column(self.answers),
            seconds=_column(self.seconds),
            turns=_ragged(*self.turns),
            runs=_ragged(*self.runs),
            judgments=_ragged(*self.judgments),
            errors=_ragged(*self.errors),
            tags={tag: _column(column) for tag, column in self.tags.items()},
            rewards={name: _column(column) for name, column in self.rewards.items()},
        )

    def _add(self, record: Record, row: int) -> None:
        tables, own = self.tables, facts(record)
        kind = tables.kinds.number(own)
        if own.selection.majority is None:
            self.undecided.append(row)
        self.kinds.append(kind)
        problem = tables.problems.number(record.id)
        self.problems.append(problem)
        unit = problem
        if record.answer_type == "verdict":
            unit = _OWN_UNIT | tables.units.number(solved_problem(record))
        self.units.append(unit)
        answer = record.answer
        self.answers.append(0 if answer is None else tables.answers.number(answer) + 1)
        self.seconds.append(record.seconds)
        self._add_rules(record, problem)
        self._add_events(record)
        self.errors[0].append(record.error is not None)
        if record.error is not None:
            self.errors[1].append(tables.errors.number(record.error))
        for tag, value in record.tags.items():
            column = self.tags.setdefault(tag, array("I"))
            column.extend([0] * (row - len(column)))
            column.append(tables.tag_values.number(value) + 1)
        for role, reward in record.rewards.items():
            for part, value in ({"": reward} | dict(record.parts.get(role, {}))).items():
                column = self.rewards.setdefault((role, part), array("d"))
                column.extend([MISSING] * (row - len(column)))
                column.append(value)

    def _add_rules(self, record: Record, problem: int) -> None:
        rules, shown = self.tables.rules, self.tables.shown
        if problem == len(rules):
            rules.append(0)
            shown.append(0)
        others = record.gold, record.answer_type, record.choices, record.tolerance, record.draft
        rules[problem] = hash((record.problem, *others))
        shown[problem] = hash(tuple(image.hash for image in record.images))

    def _add_events(self, record: Record) -> None:
        tables = self.tables
        counts, roles, tokens = self.turns
        counts.append(len(record.turns))
        for turn in record.turns:
            roles.append(2 * tables.roles.number(turn.role) + (turn.finish == "stop"))
            tokens.append(turn.tokens)
        counts, programs, seconds = self.runs
        counts.append(len(record.runs))
        for run in record.runs:
            programs.append(tables.programs.number(program(run)))
            seconds.append(run.seconds)
        counts, verdicts = self.judgments
        said = judgments(record)
        counts.append(len(said))
        verdicts.extend(map(tables.judgments.number, said))

    def _find_majorities(self) -> None:
        """Finds out the majorities that were left, if any sample has a choice to compare with."""
        kinds = self.tables.kinds
        if any(one.selection.asked for one in kinds.values):
            for row in self.undecided:
                own = kinds.values[self.kinds[row]]
                found = selection(self.records[row], always=True)
                self.kinds[row] = kinds.number(own._replace(selection=found))


def _column(values: array[Any]) -> np.ndarray:
    return np.frombuffer(values, cast(Any, values.typecode)) if values else np.zeros(0, values.typecode)


def _ragged(counts: array[int], *columns: array[Any]) -> Ragged:
    return Ragged(_column(counts), tuple(map(_column, columns)))
