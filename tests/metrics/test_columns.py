"""Columns of samples: what is kept of records, and what is read again."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slm_math.evaluation.compare import compare
from slm_math.metrics.arrays import CHUNK, Whole, counted, in_order, occurrences, totals
from slm_math.metrics.columns import Samples
from slm_math.metrics.summary import by_tag, read_samples, summarize
from slm_math.records.files import write_records
from slm_math.records.record import NoteEvent, Record, RunEvent, TurnEvent


def made(number: int, samples: int = 1) -> Record:
    problem, sample = divmod(number, samples)
    turns = [TurnEvent("solver", reply=f"reply {number}", tokens=number % 50 + 1)]
    return Record(
        f"p/{problem}",
        sample,
        problem=f"Problem {problem}?",
        tags={"level": str(problem % 5)},
        gold="7",
        answer=str(number % 9),
        correct=number % 9 == 7,
        method="box",
        seconds=0.25 * (number % 3),
        events=(*turns, RunEvent(ok=number % 2 == 0), NoteEvent("draft", "7", correct=True)),
    )


def alive() -> int:
    gc.collect()
    return sum(isinstance(one, (Record, TurnEvent)) for one in gc.get_objects())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_records(tmp_path / "records.jsonl", (made(number, 2) for number in range(3000)))
    return tmp_path


@pytest.mark.slow
def test_tables_keep_no_records(folder: Path) -> None:
    before = alive()
    samples = read_samples(folder)
    assert len(summarize(samples).by) == 1
    assert compare({"a": samples, "b": samples})[0].problems == 1500
    assert len(by_tag(samples, "level")) == 5
    assert alive() == before


def test_few_facts_stand_for_all_samples(folder: Path) -> None:
    assert len(read_samples(folder).tables.kinds.values) <= 4


def test_a_sample_is_read_again_as_it_was_written(folder: Path) -> None:
    samples = read_samples(folder)
    assert samples.record(1234) == made(1234, 2)
    chosen = samples.where(samples.problems == 617)
    assert [chosen.record(place) for place in range(2)] == [made(1234, 2), made(1235, 2)]


def test_columns_of_some_samples_are_those_of_their_records() -> None:
    records = [made(number, 2) for number in range(40)]
    some = [record for record in records if record.tags["level"] == "3"]
    [chosen] = [part for value, part in Samples.of(records).by_tag("level") if value == "3"]
    assert summarize(chosen, tags=False) == summarize(some, tags=False)
    assert chosen.turns.columns[1].tolist() == [record.tokens for record in some]


def test_a_tag_that_only_some_records_have() -> None:
    records = [made(number) for number in range(6)]
    records[2] = replace(records[2], tags={"level": "2", "kind": "rare"})
    samples = Samples.of(records)
    assert [(value, len(part)) for value, part in samples.by_tag("kind")] == [("rare", 1)]
    assert samples.tag_counts("kind") == {"rare": 1}
    assert list(samples.by_tag("subject")) == []


def test_errors_are_counted_in_order() -> None:
    errors = [None, "down", "late", "late", "down", None]
    records = [
        replace(made(n), error=error, skipped=error == "late") for n, error in enumerate(errors)
    ]
    samples = Samples.of(records)
    assert samples.error_counts(lambda one: one.broken) == {"down": 2}
    assert samples.error_counts(lambda one: one.skipped) == {"late": 2}


def test_whole_numbers_take_the_bytes_of_the_largest() -> None:
    column, sizes = Whole(), []
    for value in (0, 255, 256, 65_536, 1 << 32):
        column.append(value)
        sizes.append(column.column().itemsize)
    column.fill(7)
    column[6] = 3
    assert list(column) == [0, 255, 256, 65_536, 1 << 32, 0, 3]
    assert sizes == [1, 1, 2, 4, 8]


@pytest.mark.parametrize("most", [5, 300, 1 << 30])
def test_values_are_numbered_as_they_first_occur(most: int) -> None:
    values = np.random.default_rng(most).integers(0, most, 3 * CHUNK // 2).astype(np.uint32)
    first: dict[int, int] = {}
    wanted = [first.setdefault(value, len(first)) for value in values.tolist()]
    different, numbers = in_order(values)
    assert different.tolist() == list(first)
    assert numbers.tolist() == wanted
    assert dict(zip(*counted(values))) == Counter(values.tolist())


def test_totals_by_number_are_those_of_a_loop() -> None:
    draw = np.random.default_rng(0)
    numbers, codes = draw.integers(0, 9, CHUNK + 10), draw.integers(0, 4, CHUNK + 10)
    table = np.array([0.1, 0.2, 0.7, 1.0])
    wanted, times = [0.0] * 9, [0] * 9
    for number, code in zip(numbers.tolist(), codes.tolist()):
        wanted[number] += table[code]
        times[number] += 1
    assert totals(numbers, 9, table, codes).tolist() == wanted
    assert occurrences(numbers, 9).tolist() == times


def test_records_of_one_problem_agree_about_it() -> None:
    """Another reference in a later sample would be counted as a verdict on the same problem."""
    first = made(0, 2)
    for other in (replace(made(1, 2), gold="8"), replace(made(1, 2), problem="Another?")):
        with pytest.raises(ValueError, match=r"problem 'p/0' disagree about what it is: sample 1"):
            Samples.of([first, other])
