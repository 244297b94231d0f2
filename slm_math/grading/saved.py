"""Grade the completions of a file and write the verdicts beside it: `slm-math grade FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from slm_math.answers import grade
from slm_math.evaluation.plain import plain
from slm_math.grading.completions import (
    GOLD,
    VERDICT,
    Fields,
    NoField,
    StopError,
    cases,
    completed,
    find,
    is_record,
    names,
)
from slm_math.grading.jsonl import RowError, dump, lines, parse
from slm_math.grading.scoring import stream
from slm_math.grading.tally import Tally, accuracy, say, tell

PEEK = 100  # lines among which a first one that can be read is looked for


def grade_saved(
    path: Path,
    fields: Fields,
    out: Path | None,
    workers: int | None,
    expect: int | None,
    console: Console,
) -> bool:
    """Grades a file and writes the verdicts to `out`; False when rows could not be read or are not
    `expect`.

    Raises ValueError for what must be mended first.
    """
    fields = understood(path, fields)
    target = out or beside(path)
    tally = Tally(records=fields.records, last_number=fields.last_number)
    with _written(path, target) as sink, closing(stream(path, fields, workers, console)) as rows:
        for row in map(tally.add, rows):
            if row.error is not None:
                sink.write(dump({"line": row.line, "error": row.error}))
            else:
                sink.writelines(dump(item.written()) for item in row.items if item.broken is None)
        tally.finish()
    say(
        console,
        f"{tally.total.right} of {tally.total.n} right: {accuracy(tally)}; verdicts: {target}",
    )
    tell_fields(path, fields, console)
    tell(tally, console)
    return as_expected(tally, expect, console) and not tally.unread and not tally.twice


def tell_fields(path: Path, fields: Fields, console: Console) -> None:
    """Says which fields of the first row are taken: a file may hold several texts."""
    _, row = first_row(path) or (0, {})
    with suppress(RowError):
        completion, gold = (
            ("answer", "gold") if fields.records
            else (completed(row, fields.completion)[0], find(row, fields.gold, GOLD, "gold")[0])
        )  # fmt: skip
        say(console, f"read: completion from {plain(completion)!r}, gold from {plain(gold)!r}")


def beside(path: Path) -> Path:
    """Where the verdicts on a file are, when nobody says."""
    return path.with_suffix(".graded.jsonl")


def as_expected(tally: Tally, expect: int | None, console: Console) -> bool:
    if expect is None or tally.problems == expect:
        return True
    say(console, f"expected {expect} problems, but there are {tally.problems}")
    return False


def first_row(path: Path) -> tuple[int, dict[str, Any]] | None:
    """The first row that can be read, with its line."""
    for number, line, _ in islice(lines(path), PEEK):
        try:
            return number, parse(line)
        except RowError:
            continue
    return None


def understood(path: Path, fields: Fields) -> Fields:
    """The fields, with the kind of rows that the first one shows. Raises ValueError when that one
    lacks a field.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
    if next(lines(path), None) is None:
        raise ValueError(f"{path} is empty: there is nothing to grade")
    first = first_row(path)
    if first is None:
        return fields
    number, row = first
    check_rules(fields, row.get("answer_type"))
    fields = replace(fields, records=is_record(row) and not (fields.completion or fields.gold))
    try:
        cases(row, number, fields)
        if fields.stored and not fields.records:
            find(row, fields.verdict, VERDICT, "verdict")
    except NoField as error:
        there = plain(", ".join(islice(names(row), 20)), 300) or "none"
        name = f"name it with --{error.option} FIELD"
        raise ValueError(
            f"{path}, line {number}: {error}; fields there: {there}; {name}"
        ) from error
    except StopError as error:
        raise ValueError(f"{path}, line {number}: {error}") from error
    except RowError:
        pass  # told with the others
    return fields


def check_rules(fields: Fields, kind: object = None) -> None:
    """Raises ValueError for rules that would not hold: an unreadable tolerance, or one of another
    kind of answers.

    `kind`: the answer type of rows, where they say.
    """
    for option, value, theirs in (
        ("tolerance", fields.tolerance, "num"),
        ("choices", fields.choices, "mc"),
    ):
        if value is not None and (
            (fields.answer_type or kind) is None or fields.answer_type not in (None, theirs)
        ):
            raise ValueError(
                f"the option --{option} is a rule of --answer_type {theirs}: give that, too"
            )
    if fields.tolerance is not None:
        grade("0", "0", answer_type="num", tolerance=fields.tolerance)


@contextmanager
def _written(source: Path, target: Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name, renamed when all went well, else kept and said to be."""
    partial = target.with_name(target.name + ".partial")
    for file in (target, partial):
        if file.is_dir() or (file.exists() and file.samefile(source)):
            raise ValueError(
                f"{file} is {'a folder' if file.is_dir() else 'the input itself'}: name another "
                f"--out"
            )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = partial.open("wb")
    except OSError as error:
        raise ValueError(
            f"cannot write {partial} ({error.strerror}): name another --out"
        ) from error
    try:
        with sink:
            yield sink
        partial.replace(target)
    except KeyboardInterrupt:
        print(f"interrupted: what was graded so far is kept in {partial}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        raise ValueError(f"{error}; what was graded so far is kept in {partial}") from error
