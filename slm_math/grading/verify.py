"""Compares existing verdicts with fresh ones: `slm-math grade FILE --verify`."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from slm_math.answers import grader_version
from slm_math.data.json_lines import RowError, lines, parse
from slm_math.evaluation.plain import plain, print_line
from slm_math.grading.fields import VERDICT
from slm_math.grading.saved import (
    Options,
    first_row,
    has_expected_problems,
    verdict_file,
    with_row_kind,
)
from slm_math.grading.scoring import GradedLine, GradedSample, grade_lines
from slm_math.grading.stored_verdicts import check_stored, stored_names
from slm_math.grading.tallied import print_unread
from slm_math.grading.tally import SHOWN, Tallies
from slm_math.metrics.arrays import Whole
from slm_math.records.names import Names
from slm_math.records.places import Places, digest

COMPARED = ("correct", "answer", "method", "reason", "lenient")
Key = tuple[int, int]  # line, sample
STORED = {
    "line": int,
    "sample": int,
    "correct": bool,
    "answer": str | None,
    "completion_hash": str,
    "gold_hash": str,
}


class RowsPerId:
    """How many rows each id of a file, or of a filter of it, has, in the order of the file."""

    def __init__(self) -> None:
        self._ids, self._rows = Names(), Whole()

    def add(self, id: str | int, filter: str | None) -> None:
        number = self._ids.number(json.dumps([id, filter]))
        self._rows.fill(number + 1)
        self._rows[number] += 1

    def __iter__(self) -> Iterator[tuple[str | int, int]]:
        return ((json.loads(id)[0], size) for id, size in zip(self._ids, self._rows))


class Recorded:
    """Which samples of which problems there are records of."""

    def __init__(self) -> None:
        self._ids, self._samples, self._keys = Names(), Whole(), Places()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, id: str, sample: int) -> None:
        number, before = self._ids.number(id), len(self)
        self._keys.setdefault(digest((id, sample)), 0)
        self._samples.fill(number + 1)
        self._samples[number] += len(self) - before

    def missing(self) -> Iterator[tuple[str, int]]:
        """The samples that a problem lacks, of as many as the problem with the most has."""
        most = max(self._samples, default=0)
        for id in self._ids:
            for sample in range(most):
                if self._keys.get(digest((id, sample))) is None:
                    yield id, sample


@dataclass
class Findings:
    """The result of a comparison: how many verdicts agree, and of each kind of trouble the count
    and the first few cases.
    """

    agree: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    graders: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, case: str) -> None:
        self.counts[kind] += 1
        if len(self.first[kind]) < SHOWN:
            self.first[kind].append(case)

    def extend(self, others: Findings) -> None:
        """Adds other findings."""
        self.counts += others.counts
        for kind, cases in others.first.items():
            self.first[kind] = [*self.first[kind], *cases][:SHOWN]

    def print(self, console: Console, where: str) -> None:
        for kind, count in self.counts.items():
            more = f", the first {SHOWN}:" if count > SHOWN else ""
            print_line(console, f"{kind}: {count}{more}")
            for case in self.first[kind]:
                print_line(console, f"  {case}")
        others = [plain(name) for name in self.graders if name != grader_version()]
        made_by = (
            f" (made by grader {', '.join(others)}; this is {grader_version()})" if others else ""
        )
        every = "all " if self.agree and not self.counts else ""
        print_line(console, f"{every}{self.agree} verdicts agree with {where}{made_by}")


def verify_file(path: Path, options: Options, console: Console) -> bool:
    """Grades a file again and compares the verdicts with those in the file beside it (or
    `options.out`), or else with those that its rows carry.

    False if any verdict differs, is missing or is a duplicate, or if there is none.
    """
    fields = with_row_kind(path, options.fields, options.golds)
    verdicts = options.out or verdict_file(path)
    in_rows = fields.records or fields.verdict is not None
    if not in_rows and not verdicts.is_file():
        number, row = first_row(path, options.golds)
        in_rows = options.out is None and bool(stored_names(row, number, fields))
        if not in_rows:
            also = (
                ""
                if options.out
                else f" and rows have no field {' or '.join(VERDICT)}; grade first, or name "
                f"--verdict"
            )
            raise ValueError(f"nothing to verify: {verdicts} does not exist{also}")
    if in_rows and not fields.records:
        check_stored(path, fields, options.golds)
    tallies, findings = Tallies(fields, path), Findings()
    rows_per_id, recorded = RowsPerId(), Recorded()
    with closing(grade_lines(path, fields, options.workers, console, golds=options.golds)) as rows:
        added = map(tallies.add, rows)
        if fields.records:
            added = _noted(added, recorded)
        samples = _samples(added, findings, rows_per_id)
        if in_rows:
            compare_with_rows(samples, findings)
        else:
            compare_with_file(samples, verdicts, findings)
    tallies.finish()
    if fields.records:
        check_manifest(recorded, path.with_name("manifest.json"), findings)
    else:
        check_rows_per_id(rows_per_id, findings)
    findings.print(console, "those in the rows" if in_rows else str(verdicts))
    if broken := sum(len(tally.broken) for tally in tallies.finished):
        print_line(
            console,
            f"broken: {broken} of the evaluation's samples have no answer to verify",
        )
    print_unread(tallies, console)
    return (
        has_expected_problems(tallies, options.expect, console)
        and not findings.counts
        and not tallies.unread
        and findings.agree > 0
    )


def _noted(rows: Iterable[GradedLine], recorded: Recorded) -> Iterator[GradedLine]:
    """The rows; notes which samples they are records of."""
    for row in rows:
        for sample in () if row.error is not None else row.samples:
            recorded.add(str(sample.id), sample.sample)
        yield row


def _samples(
    rows: Iterable[GradedLine], findings: Findings, rows_per_id: RowsPerId
) -> Iterator[GradedSample]:
    """The samples that have a verdict; counts the rows of each id."""
    for row in rows:
        if row.samples and row.samples[0].id is not None:
            rows_per_id.add(row.samples[0].id, row.samples[0].filter)
        if row.error is None:
            yield from (sample for sample in row.samples if sample.broken is None)
        elif row.samples:
            findings.add("duplicate", f"line {row.line}: {row.error}")


def check_rows_per_id(rows_per_id: RowsPerId, findings: Findings) -> None:
    """Whether every id has as many rows as most ids (if two numbers are equally common, the smaller
    one).
    """
    sizes = Counter(size for _, size in rows_per_id)
    usual = min(sizes, key=lambda size: (-sizes[size], size), default=0)
    for id, size in rows_per_id:
        if size != usual:
            findings.add(
                "duplicate" if size > usual else "missing",
                f"{plain(id)} has {size} rows, most have {usual}",
            )


def compare_with_rows(samples: Iterable[GradedSample], findings: Findings) -> None:
    """Compares with the verdicts that the rows themselves carry."""
    for sample in samples:
        place = _place(sample.line, sample.sample)
        if sample.stored is None:
            findings.add("missing", f"{place} has no verdict")
        elif sample.stored != sample.correct:
            findings.add("different", f"{place}: {_stored_as(sample.stored)}, now {_now(sample)}")
        else:
            findings.agree += 1


def compare_with_file(samples: Iterable[GradedSample], path: Path, findings: Findings) -> None:
    """Compares with a file of verdicts, which is read in parallel: verdicts in the order of the
    samples are not kept in memory.
    """
    stored = _stored(path, findings)
    missing: dict[Key, GradedSample] = {}
    without = Findings()  # after the last verdict
    ahead = next(stored, None)

    def compare_late(old: dict[str, Any]) -> None:
        """Compares a verdict that comes after its sample was passed."""
        sample = missing.pop((old["line"], old["sample"]), None)
        if sample is None:
            place = f"{_place(old['line'], old['sample'])} in {old['place']}"
            findings.add("duplicate, or of no sample", place)
        else:
            _compare(sample, old, findings)

    for sample in samples:
        key = (sample.line, sample.sample)
        while ahead and (ahead["line"], ahead["sample"]) < key:
            compare_late(ahead)
            ahead = next(stored, None)
        if ahead and (ahead["line"], ahead["sample"]) == key:
            _compare(sample, ahead, findings)
            ahead = next(stored, None)
        elif ahead:
            missing[key] = sample
        else:
            without.add("missing", f"{_place(*key)} has no verdict")
    while ahead:
        compare_late(ahead)
        ahead = next(stored, None)
    for line, number in missing:
        findings.add("missing", f"{_place(line, number)} has no verdict")
    findings.extend(without)


def _stored(path: Path, findings: Findings) -> Iterator[dict[str, Any]]:
    """The verdicts of a file, each with its place in it."""
    for number, line, _ in lines(path):
        place = f"{path.name}, line {number}"
        try:
            row = parse(line)
        except RowError as error:
            findings.add("unreadable", f"{place}: {plain(error)}")
            continue
        wrong = [
            name
            for name, kind in STORED.items()
            if name not in row or not isinstance(row[name], kind)
        ]
        if not wrong:
            findings.graders[str(row.get("grader"))] += 1
            yield row | {"place": place}
        elif "error" not in row:
            findings.add(
                "unreadable", f"{place}: field {wrong[0]!r} is missing or has a wrong type"
            )


def _compare(sample: GradedSample, old: dict[str, Any], findings: Findings) -> None:
    place = f"{_place(sample.line, sample.sample)} ({old['place']})"
    parts = ("completion", sample.completion_hash), ("gold", sample.gold_hash)
    changed = [name for name, digest in parts if old[f"{name}_hash"] != digest]
    if changed:
        findings.add("changed since", f"{place}: the {' and the '.join(changed)}")
    elif any(name in old and old[name] != getattr(sample, name) for name in COMPARED):
        reason = f"({plain(old.get('reason', '-'))}, answer {_shown(old['answer'])})"
        findings.add(
            "different", f"{place}: {_stored_as(old['correct'])}, {reason}, now {_now(sample)}"
        )
    else:
        findings.agree += 1


def check_manifest(recorded: Recorded, path: Path, findings: Findings) -> None:
    """Whether an evaluation is complete: by its manifest, and by having the same samples of every
    problem.
    """
    if path.is_file():
        try:
            manifest = parse(path.read_bytes())
        except RowError as error:
            findings.add("unreadable", f"{path}: {plain(error)}")
            manifest = {"partial": False, "records": len(recorded)}
        if manifest.get("partial") is not False:
            findings.add("missing", f"{path}: the evaluation is partial")
        if manifest.get("records") != len(recorded):
            findings.add(
                "missing",
                f"{path} counts {plain(manifest.get('records'))} records, not {len(recorded)}",
            )
        environment = manifest.get("environment")
        if isinstance(environment, dict):
            findings.graders[str(environment.get("grader"))] += 1
    for id, sample in recorded.missing():
        findings.add("missing", f"sample {sample} of {plain(id)}")


def _place(line: int, sample: int) -> str:
    return f"line {line}, sample {sample}"


def _stored_as(correct: bool) -> str:
    return "stored as correct" if correct else "stored as incorrect"


def _now(sample: GradedSample) -> str:
    verdict = "correct" if sample.correct else "incorrect"
    return f"{verdict} ({sample.reason}, answer {_shown(sample.answer)})"


def _shown(answer: str | None) -> str:
    return "none" if answer is None else f"'{plain(answer)}'"
