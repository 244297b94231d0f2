"""What metrics, tables and tests need of records, as columns: some 25 bytes a sample, 1 to 10 for
each turn, program and verdict, and some 55 a problem.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slm_math.metrics.arrays import (
    Codes,
    Labels,
    Ragged,
    Whole,
    as_column,
    counted,
    entries,
    grouped,
    ragged,
    totals,
)
from slm_math.metrics.facts import TEMPLATE, Facts, Judgment, facts, judgments, unit_of
from slm_math.metrics.programs import Program, program
from slm_math.metrics.selection import selection
from slm_math.records.names import Names
from slm_math.records.record import Record

MISSING = float("-inf")  # a reward that a sample does not have
_OWN_UNIT = 1 << 31  # marks units that are not the problem itself


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
    asked: array[int] = field(default_factory=lambda: array("q"))  # what is asked; 0 without a text
    shown: array[int] = field(default_factory=lambda: array("q"))  # of its images, if any has some
    labels: Labels = field(default_factory=Labels)  # classes of answers, by row


@dataclass(frozen=True)
class Samples:
    """Samples as columns, in order. What is not there is read again from the `records`.

    Args:
        records: all records, of which `rows` says where those of these samples are.
        tables: what numbers stand for.
        kinds, problems, answers: numbers in these tables; of answers, 0 is none.
        units: of independent observations: the number of the problem, or of `tables.units` (see
            `unit_of`).
        seconds: of the sample.
        turns: role (twice its number, and 1 if it ended by itself) and tokens.
        runs: number of the program, and seconds.
        judgments: their numbers.
        errors: the number of the error of each broken or skipped sample.
        tags: by tag, 1 more than the number of its value; 0 without one.
        rewards: by role and part ("" is the whole reward), NaN where it was not scored.
        cluster: the tag whose values are the units (or "images"); None if problems are.
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
    cluster: str | None = None

    @classmethod
    def of(cls, records: Samples | Iterable[Record]) -> Samples:
        """The columns of records; each is looked at once and not kept. Columns stay as they are."""
        if isinstance(records, Samples):
            return records
        listed = records if isinstance(records, Sequence) else list(records)
        return _Builder(listed).samples()

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, place: int) -> Record:
        """The whole record of a sample, read again."""
        return self.records[int(self.rows[place])]

    def where(self, chosen: np.ndarray) -> Samples:
        """Those of the samples that a mask or places choose."""
        columns = ("rows", "kinds", "problems", "units", "answers", "seconds")
        ragged = ("turns", "runs", "judgments", "errors")
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in columns},
            **{name: getattr(self, name).of(chosen) for name in ragged},
            tags={tag: column[chosen] for tag, column in self.tags.items()},
            rewards={name: column[chosen] for name, column in self.rewards.items()},
        )

    def counted(self) -> list[tuple[Facts, int]]:
        """The different facts in the order in which they first occur, with how often they do."""
        numbers, counts = counted(self.kinds)
        return [(self.tables.kinds.values[one], n) for one, n in zip(numbers, counts)]

    def fact(self, of: Callable[[Facts], float | None]) -> np.ndarray:
        """A number for every sample, of its facts, (N,) float64; NaN for None."""
        return entries(self.tables.kinds.column(of), self.kinds)

    def sums(self, of: Callable[[Facts], float | None], groups: np.ndarray, n: int) -> np.ndarray:
        """The sum of a number of the facts over the samples of each of n groups, (n,) float64;
        `groups` has the group of every sample.
        """
        return totals(groups, n, self.tables.kinds.column(of), self.kinds)

    def total(self, of: Callable[[Facts], float]) -> int | float:
        """The sum of a number of the facts."""
        return sum(of(one) * n for one, n in self.counted())

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """`grouped` problems."""
        return grouped(self.problems)

    def places_of(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """Where the samples of some problems are, by id."""
        numbers = {self.tables.problems.get(id): id for id in ids}
        places: dict[str, list[int]] = {id: [] for id in ids}
        wanted = [number for number in numbers if number is not None]
        for place in np.flatnonzero(np.isin(self.problems, wanted)).tolist():
            places[numbers[int(self.problems[place])]].append(place)
        return places

    def also_in(self, others: Samples) -> np.ndarray:
        """Whether there are other samples of the problem of each sample, (N,) bool."""
        numbers = self.tables.problems.numbers_in(others.tables.problems)
        return np.isin(numbers[self.problems], others.problems)

    def by_tag(self, tag: str) -> Iterator[tuple[str, Samples]]:
        """The samples with each value of a tag, by value in order."""
        column = self.tags.get(tag)
        if column is None:
            return
        numbers = [one for one in counted(column)[0] if one]
        for value, number in sorted((self.tables.tag_values[one - 1], one) for one in numbers):
            yield value, self.where(column == number)

    def tag_counts(self, tag: str) -> dict[str, int]:
        """The different values of a tag, and how many samples have each."""
        pairs = zip(*counted(self.tags[tag])) if tag in self.tags else ()
        return {self.tables.tag_values[one - 1]: n for one, n in sorted(pairs) if one}

    def error_counts(self, of: Callable[[Facts], bool]) -> Counter[str]:
        """How often each error occurs among samples, in order."""
        chosen = self.fact(of)[self.errors.rows] > 0
        numbers, counts = counted(self.errors.columns[0][chosen])
        return Counter({self.tables.errors[one]: n for one, n in zip(numbers, counts)})

    def unit_name(self, unit: int) -> str:
        """The name of a unit: the id of a problem, or that of `unit_of`."""
        tables = self.tables
        return tables.units[unit ^ _OWN_UNIT] if unit & _OWN_UNIT else tables.problems[unit]

    def answer(self, place: int) -> str | None:
        """The answer of a sample."""
        number = int(self.answers[place])
        return self.tables.answers[number - 1] if number else None


class _Builder:
    """Makes columns of records, one after the other."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records, self.tables = records, Tables()
        self.kinds, self.answers = Whole(), Whole()
        self.problems, self.seconds = array("I"), array("d")
        self.units = array("I")  # of all samples so far, if any is not its problem
        self.turns = Whole(), Whole(), Whole()  # counts, and columns
        self.runs = Whole(), Whole(), array("d")
        self.judgments, self.errors = (Whole(), Whole()), (Whole(), Whole())
        self.tags: dict[str, Whole] = {}
        self.rewards: dict[tuple[str, str], array[float]] = {}
        self.undecided = array("I")  # samples whose majority nobody has found out

    def samples(self) -> Samples:
        n = 0
        for n, record in enumerate(self.records, 1):
            self._add(record, n - 1)
        self._find_majorities()
        for column in self.tags.values():
            column.fill(n)
        for column in self.rewards.values():
            column.extend([MISSING] * (n - len(column)))
        problems = as_column(self.problems)
        return Samples(
            records=self.records,
            rows=np.arange(n, dtype=np.uint32),
            tables=self.tables,
            kinds=self.kinds.column(),
            problems=problems,
            units=as_column(self.units) if self.units else problems,
            answers=self.answers.column(),
            seconds=as_column(self.seconds),
            turns=ragged(*self.turns),
            runs=ragged(*self.runs),
            judgments=ragged(*self.judgments),
            errors=ragged(*self.errors),
            tags={tag: one.column() for tag, one in self.tags.items()},
            rewards={name: as_column(one) for name, one in self.rewards.items()},
            cluster=self._cluster(),
        )

    def _cluster(self) -> str | None:
        """The tag of the templates, if any of them has several instances."""
        templates = TEMPLATE in self.tags and len(self.tables.units) < len(self.tables.problems)
        return TEMPLATE if templates else None

    def _add(self, record: Record, row: int) -> None:
        tables, own = self.tables, facts(record)
        kind = tables.kinds.number(own)
        if own.selection.majority is None:
            self.undecided.append(row)
        self.kinds.append(kind)
        problem = tables.problems.number(record.id)
        unit = problem
        if (own_unit := unit_of(record)) is not None:
            unit = _OWN_UNIT | tables.units.number(own_unit)
        if self.units or unit != problem:
            self.units.extend(self.problems[len(self.units) :])
            self.units.append(unit)
        self.problems.append(problem)
        answer = record.answer
        self.answers.append(0 if answer is None else tables.answers.number(answer) + 1)
        self.seconds.append(record.seconds)
        self._add_rules(record, problem)
        self._add_events(record, own)
        self.errors[0].append(record.error is not None)
        if record.error is not None:
            self.errors[1].append(tables.errors.number(record.error))
        for tag, value in record.tags.items():
            column = self.tags.get(tag)
            if column is None:
                column = self.tags[tag] = Whole()
            column.fill(row)
            column.append(tables.tag_values.number(value) + 1)
        for role, reward in record.rewards.items():
            for part, value in ({"": reward} | dict(record.parts.get(role, {}))).items():
                column = self.rewards.setdefault((role, part), array("d"))
                column.extend([MISSING] * (row - len(column)))
                column.append(value)

    def _add_rules(self, record: Record, problem: int) -> None:
        rules, shown = self.tables.rules, self.tables.shown
        others = record.gold, record.answer_type, record.choices, record.tolerance, record.draft
        own = hash((record.problem, *others))
        if problem == len(rules):
            rules.append(own)
            images = tuple(image.hash for image in record.images)
            asked = hash((record.problem, record.choices, record.draft, images))
            self.tables.asked.append(asked if record.problem else 0)
        elif rules[problem] != own:  # samples of two problems are no sample of either
            raise ValueError(
                f"the records of problem {record.id!r:.80} disagree about what it is: sample "
                f"{record.sample} has another text, reference answer, answer type, choices, "
                "tolerance or draft than an earlier one"
            )
        images = hash(tuple(image.hash for image in record.images)) if record.images else 0
        if shown or images:
            shown.extend([0] * (len(rules) - len(shown)))
            shown[problem] = images

    def _add_events(self, record: Record, own: Facts) -> None:
        tables = self.tables
        turns, runs = record.turns, record.runs
        counts, roles, tokens = self.turns
        counts.append(len(turns))
        for turn in turns:
            roles.append(2 * tables.roles.number(turn.role) + (turn.finish == "stop"))
            tokens.append(turn.tokens)
        counts, programs, seconds = self.runs
        counts.append(len(runs))
        for run in runs:
            programs.append(tables.programs.number(program(run)))
            seconds.append(run.seconds)
        counts, verdicts = self.judgments
        said = judgments(record) if own.approved else ()
        counts.append(len(said))
        for one in said:
            verdicts.append(tables.judgments.number(one))

    def _find_majorities(self) -> None:
        """Finds out the majorities that were left, if any sample has a choice to compare with."""
        kinds = self.tables.kinds
        if any(one.selection.asked for one in kinds.values):
            for row in self.undecided:
                own = kinds.values[self.kinds[row]]
                found = selection(self.records[row], always=True)
                self.kinds[row] = kinds.number(own._replace(selection=found))
