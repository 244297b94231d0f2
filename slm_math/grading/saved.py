"""Grades the completions of a file and writes the verdicts beside it: `slm-math grade FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from slm_math.answers import grade
from slm_math.data.json_lines import RowError, dump, parse
from slm_math.evaluation.plain import plain, print_line
from slm_math.foreign.joining import Golds
from slm_math.foreign.paths import field_paths
from slm_math.foreign.shapes import shape_of
from slm_math.grading.agreement import Agreements
from slm_math.grading.completions import cases, is_record, used_fields
from slm_math.grading.fields import AmbiguousRow, Fields, NoField
from slm_math.grading.recording import SAVED, Recorder
from slm_math.grading.roles import check_reference, completion_field
from slm_math.grading.row_verdicts import check_named
from slm_math.grading.rows import rows
from slm_math.grading.scoring import grade_lines
from slm_math.grading.tallied import headline, print_tally, print_unread
from slm_math.grading.tally import Tallies
from slm_math.records.outputs import check_output
from slm_math.stopping import Stopped

PEEK = 100  # lines among which the first readable one is searched


@dataclass(frozen=True)
class Options:
    """How to grade a file: the fields of its rows, the file for the verdicts (None: beside it), the
    number of processes (None: as many as are worth it), the expected number of problems, reference
    answers of another file to join, what takes the records, and how many disagreements with the
    rows' own verdicts are shown.
    """

    fields: Fields
    out: Path | None = None
    workers: int | None = None
    expect: int | None = None
    golds: Golds | None = None
    recorder: Recorder | None = None
    disagreements: int = 5


def grade_saved(path: Path, options: Options, console: Console) -> bool:
    """Grades a file and writes the verdicts; False if rows could not be read or repeat a sample, or
    if the number of problems is not the expected one.

    Raises ValueError for a file or options that the user must correct first.
    """
    fields = with_row_kind(path, options.fields, options.golds)
    fields = replace(fields, recorded=options.recorder is not None)
    target = options.out or verdict_file(path)
    tallies, agreements = Tallies(fields, path), Agreements(options.disagreements)
    graded = grade_lines(path, fields, options.workers, console, golds=options.golds)
    recorder = options.recorder
    with recorder or nullcontext(), _written(path, target) as sink, closing(graded) as rows:
        for row in map(agreements.add, map(tallies.add, rows)):
            if recorder is not None:
                recorder.add(row)
            if row.error is not None:
                sink.write(dump({"line": row.line, "error": row.error}))
            else:
                for sample in row.samples:
                    if sample.broken is None:
                        sink.write(sample.to_line().encode())
        if not tallies.graded:
            sink.truncate(0)
            raise ValueError(f"{path}: no row could be graded; line {tallies.first_error}")
        finished = tallies.finish()
        if recorder is not None:
            recorder.finish(path, fields.shape or SAVED, tallies)
    for tally in finished:
        name = f"{plain(tally.filter)}: " if tally.filter and tallies.several else ""
        print_line(
            console,
            f"{name}{headline(tally)}; verdicts: {target}",
        )
    print_fields(path, fields, console, options.golds)
    for tally in tallies.finished:
        if tallies.several:
            print_line(console, f"filter {plain(tally.filter)}:")
        print_tally(tally, console)
    if len(tallies.same) > 1:
        print_line(
            console,
            f"filters: the rows of {', '.join(map(plain, tallies.same))} hold the same completions,"
            " which are counted once",
        )
    agreements.print(fields.shape or path.name, console)
    print_unread(tallies, console)
    return has_expected_problems(tallies, options.expect, console) and not (
        tallies.unread or any(tally.duplicates for tally in tallies.finished)
    )


def print_fields(path: Path, fields: Fields, console: Console, golds: Golds | None) -> None:
    """Prints which fields of the first row are used: a row may have several texts."""
    _, row = first_row(path, golds)
    with suppress(RowError):
        if fields.records:
            completion, gold = "answer", "gold"
        else:
            completion, gold = used_fields(row, fields)
        where = f"gold from {plain(gold)!r}"
        if golds is not None and fields.gold is None:
            where = f"gold joined from {golds.path}"
        shape = "" if fields.shape is None else f" as rows of {fields.shape}"
        print_line(console, f"read{shape}: completion from {plain(completion)!r}, {where}")
        if completion == "solution" and fields.completion is None:
            print_line(
                console,
                "note: in many data sets 'solution' is the reference; if it is in this file, these "
                "figures say nothing: name the model's field with --completion",
            )


def verdict_file(path: Path) -> Path:
    """The default file for the verdicts on a file."""
    if path.suffix in (".csv", ".tsv", ".parquet", ".gz"):  # x.csv and x.jsonl may be neighbors
        return path.with_name(path.name + ".graded.jsonl")
    return path.with_suffix(".graded.jsonl")


def has_expected_problems(tallies: Tallies, expect: int | None, console: Console) -> bool:
    counts = {tally.problems for tally in tallies.finished}
    if expect is None or counts == {expect}:
        return True
    print_line(
        console,
        f"expected {expect} problems, but there are {' or '.join(map(str, sorted(counts)))}",
    )
    return False


def first_row(path: Path, golds: Golds | None = None) -> tuple[int, dict[str, Any]]:
    """The first row that can be read, with its line number.

    Raises ValueError if none of the first `PEEK` rows can be read, and says why.
    """
    why = ""
    for number, line, _ in islice(rows(path, golds), PEEK):
        try:
            return number, parse(line)
        except RowError as error:
            why = why or f"line {number}: {error}"
    raise ValueError(
        f"{path}: no row can be read ({why})" if why else f"{path} is empty: nothing to grade"
    )


def with_row_kind(path: Path, fields: Fields, golds: Golds | None = None) -> Fields:
    """The fields, with the kind of rows (`records`, `shape`) that the first row shows.

    Raises ValueError if there is no row, or the first one lacks a field.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    number, row = first_row(path, golds)
    check_rules(fields, row.get("answer_type"))
    try:
        shape = shape_of(row, fields.format)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from error
    fields = replace(
        fields,
        completion=_completion_of_filter(path, fields, None if shape is None else shape.name),
        records=is_record(row) and not (fields.completion or fields.gold),
        shape=None if shape is None else shape.name,
    )
    try:
        cases(row, number, fields)
        check_named(row, fields.verdict, shape)
        if not fields.records and fields.completion is None and shape is None:
            name, completion = completion_field(row, None)
            check_reference(row, name, completion)
            fields = replace(fields, reference=name != "solution")
    except NoField as error:
        there = plain(", ".join(islice(field_paths(row), 20)), 300) or "none"
        name = f"name it with --{error.option} FIELD"
        if error.option == "gold" and golds is None:
            name += ", or join a file of references with --golds FILE"
        raise ValueError(
            f"{path}, line {number}: {error}; fields there: {there}; {name}"
        ) from error
    except AmbiguousRow as error:
        raise ValueError(f"{path}, line {number}: {error}") from error
    except RowError:
        pass  # reported with the other unreadable rows
    return fields


def _completion_of_filter(path: Path, fields: Fields, shape: str | None) -> str | None:
    """The field of the completion, which a filter changes. Raises ValueError for a filter of rows
    that have none.
    """
    if fields.filter is None:
        return fields.completion
    if shape != "lm-eval":
        raise ValueError(f"{path}: --filter names a filter of lm-eval, and its rows are others")
    return fields.completion or "filtered_resps"


def check_rules(fields: Fields, kind: object = None) -> None:
    """Raises ValueError for rules that would have no effect or cannot be read: a tolerance or
    choices for another type of answers, or an unreadable tolerance.

    `kind` is the answer type in the rows, if they have one.
    """
    for option, value, its_type in (
        ("tolerance", fields.tolerance, "num"),
        ("choices", fields.choices, "mc"),
    ):
        if value is not None and (
            (fields.answer_type or kind) is None or fields.answer_type not in (None, its_type)
        ):
            raise ValueError(
                f"the option --{option} is a rule of --answer_type {its_type}: give both"
            )
    if fields.tolerance is not None:
        grade("0", "0", answer_type="num", tolerance=fields.tolerance)


@contextmanager
def _written(source: Path, target: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name, which is renamed at the end; after an error it is kept, and
    the message names it.
    """
    partial = target.with_name(target.name + ".partial")
    if target.is_dir():
        raise ValueError(f"{target} is a folder: choose another --out")
    for file in (target, partial):
        check_output("grade", file, [source])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = partial.open("wb")
    except OSError as error:
        raise ValueError(
            f"cannot write {partial} ({error.strerror}): choose another --out"
        ) from error
    try:
        with sink:
            yield sink
        partial.replace(target)
    except KeyboardInterrupt as error:
        stop = Stopped.of(error)
        print(f"{stop.how}. Verdicts so far are in {partial}.", file=sys.stderr)
        sys.exit(stop.status)
    except (ValueError, OSError) as error:
        if not partial.stat().st_size:
            partial.unlink()
            raise
        raise ValueError(f"{error}; verdicts so far are in {partial}") from error
