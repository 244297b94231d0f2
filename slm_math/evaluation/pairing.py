"""Problems of saved completions paired between runs: by id where ids and problems agree and all
runs have them, or where there are no texts; else by the text of the problem.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from slm_math.answers import grade_answer
from slm_math.foreign.texts import LINE, TEXT, text_key
from slm_math.metrics.arrays import as_column
from slm_math.metrics.columns import Samples
from slm_math.records.places import Places, digest
from slm_math.records.record import Record
from slm_math.types import Problem, Task

_NONE = (1 << 32) - 1


class Renamed(Sequence[Record]):
    """Some records of a run, as records of the problems of a baseline, whose ids they take."""

    def __init__(
        self,
        records: Sequence[Record],
        rows: Sequence[int],
        baseline: Sequence[Record],
        places: Sequence[int],
    ) -> None:
        self._records, self._rows = records, rows
        self._baseline, self._places = baseline, places  # of a record of the same problem

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> list[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | list[Record]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        return self._renamed(self._records[self._rows[place]], self._baseline[self._places[place]])

    def _renamed(self, own: Record, model: Record) -> Record:
        return replace(
            own,
            id=model.id,
            problem=model.problem,
            gold=model.gold,
            answer_type=model.answer_type,
            choices=model.choices,
            tolerance=model.tolerance,
        )


@dataclass
class _Run:
    """The problems of a run: by id and by text, in about 70 bytes each and 4 a record."""

    name: str
    records: Sequence[Record]
    by_id: Places = field(default_factory=Places)
    keys: array[int] = field(default_factory=lambda: array("Q"))  # of problems; 0 without a text
    golds: array[int] = field(default_factory=lambda: array("Q"))  # digests of theirs
    firsts: array[int] = field(default_factory=lambda: array("I"))  # the first record of each
    problems: array[int] = field(default_factory=lambda: array("I"))  # of each record

    @classmethod
    def of(cls, name: str, records: Sequence[Record]) -> _Run:
        run = cls(name, records)
        for row, record in enumerate(records):
            number = run.by_id.setdefault(digest(record.id), len(run.keys))
            if number == len(run.keys):
                run.keys.append(digest(text_of(record)) if record.problem else 0)
                run.golds.append(digest(record.gold))
                run.firsts.append(row)
            run.problems.append(number)
        return run

    def by_text(self) -> Places:
        """The first problem of each text."""
        places = Places()
        for number, key in enumerate(self.keys):
            if key:
                places.setdefault(key, number)
        return places


def text_of(record: Record) -> str:
    """A key of what the problem of a record is; equal for texts that differ in spaces alone."""
    return text_key(record.problem, record.choices, tuple(image.hash for image in record.images))


def paired(runs: Mapping[str, Samples]) -> tuple[dict[str, Samples], list[str]]:
    """The samples of all runs on the problems that all have, under the ids of the first run, and
    lines on how they were paired.

    Raises ValueError if no problem is in all runs, or if one has different reference answers.
    """
    (_, baseline), *rest = runs.items()
    if all(_equal_problems(baseline, samples) for _, samples in rest):  # nothing is to be renamed
        n = len(baseline.tables.problems)
        return dict(runs), [f"paired {n} problems {_by(baseline.tables.problems[0])}"]
    read = [_Run.of(name, samples.records) for name, samples in runs.items()]
    first, *others = read
    same = all(_same_ids(first, other) for other in others)
    matches = [_by_id(first, other) if same else _by_text(first, other) for other in others]
    shared = array("B", bytes(len(first.keys)))  # problems of the first run that all others have
    for number in range(len(first.keys)):
        shared[number] = all(match[number] != _NONE for match in matches)
    if not any(shared):
        names = " and ".join(runs)
        raise ValueError(
            f"{names} have no problem in common, neither by id nor by text: name the fields of id "
            "and problem, or compare runs on one data set"
        )
    for other, match in zip(others, matches):
        _check_golds(first, other, shared, match)
    own = array("I", range(len(first.keys)))
    found = {
        run.name: Samples.of(_renamed(run, first, shared, match))
        for run, match in zip(read, (own, *matches))
    }
    return found, _notes(read, shared, same)


def _equal_problems(one: Samples, other: Samples) -> bool:
    """Whether two runs have the same ids, and each the same problem, reference and rules."""
    mine, theirs = one.tables, other.tables
    if len(mine.problems) != len(theirs.problems):
        return False
    numbers = mine.problems.numbers_in(theirs.problems)
    if (numbers < 0).any():
        return False
    return bool((as_column(mine.rules) == as_column(theirs.rules)[numbers]).all())


def _by(id: str) -> str:
    """How problems are paired whose ids are like this one."""
    if id.startswith(LINE):
        return "by their lines, since rows have neither an id nor a text"
    return "by their texts" if id.startswith(TEXT) else "by id"


def _same_ids(one: _Run, other: _Run) -> bool:
    """Whether problems are paired by id: those with the same id have the same text, as far as both
    have one; and two runs have the same ids, or texts could not tell their problems.
    """
    match = _by_id(one, other)
    shared = [(number, place) for number, place in enumerate(match) if place != _NONE]
    for number, place in shared:
        mine, yours = one.keys[number], other.keys[place]
        if mine != yours and mine and yours:
            return False
    if len(shared) == len(one.keys) == len(other.keys):
        return True
    if not shared:
        return False
    lines = any(one.records[one.firsts[number]].id.startswith(LINE) for number, _ in shared)
    return not (lines or (all(one.keys) and all(other.keys)))


def _by_id(one: _Run, other: _Run) -> array[int]:
    """For each problem of a run the number of the one with its id in another; `_NONE` for none."""
    match = array("I", [_NONE]) * len(one.keys)
    for number, row in enumerate(one.firsts):
        place = other.by_id.get(digest(one.records[row].id))
        match[number] = _NONE if place is None else place
    return match


def _by_text(one: _Run, other: _Run) -> array[int]:
    """The same by the texts of problems; of several problems of one text, the first counts."""
    match, mine, theirs = array("I", [_NONE]) * len(one.keys), one.by_text(), other.by_text()
    for number, key in enumerate(one.keys):
        place = theirs.get(key) if key and mine.get(key) == number else None
        match[number] = _NONE if place is None else place
    return match


def _check_golds(one: _Run, other: _Run, shared: Sequence[int], match: Sequence[int]) -> None:
    for number, (is_shared, place) in enumerate(zip(shared, match)):
        if not is_shared or one.golds[number] == other.golds[place]:
            continue
        mine, yours = one.records[one.firsts[number]], other.records[other.firsts[place]]
        problem = Problem("", "", mine.answer_type, mine.choices)
        task = Task(problem, mine.gold, tolerance=mine.tolerance)
        if not grade_answer(yours.gold, task).equal:
            raise ValueError(
                f"problem {mine.id!r:.60} has another gold in {other.name} than in {one.name} "
                f"({yours.gold!r:.60}, {mine.gold!r:.60}): verdicts on different references cannot "
                "be compared"
            )


def _renamed(run: _Run, first: _Run, shared: Sequence[int], match: Sequence[int]) -> Renamed:
    """The records of a run on the shared problems."""
    models = {place: number for number, place in enumerate(match) if shared[number]}
    rows, places = array("I"), array("I")
    for row, problem in enumerate(run.problems):
        if problem in models:
            rows.append(row)
            places.append(first.firsts[models[problem]])
    return Renamed(run.records, rows, first.records, places)


def _notes(runs: Sequence[_Run], shared: Sequence[int], same: bool) -> list[str]:
    n = sum(shared)
    texts = all(all(run.keys) for run in runs)
    how = _by(runs[0].records[0].id)
    how += ", since not all have texts of the problems" if how == "by id" and not texts else ""
    line = f"paired {n} problems {how if same else 'by their texts, since ids differ'}"
    left_out = []
    for run in runs:
        again = 0 if same else sum(map(bool, run.keys)) - len(run.by_text())
        if again:
            left_out.append(
                f"{again} of {run.name} that have the text of another problem, of which the first "
                "counts (without ids, rows of one text are samples of one problem)"
            )
        if len(run.keys) - again > n:
            left_out.append(f"{len(run.keys) - again - n} only in {run.name}")
    return [f"{line}; not paired and left out: {', '.join(left_out)}" if left_out else line]
