"""What lists say of a line is what its record says, whatever texts it has."""

from __future__ import annotations

import json

import pytest
from watching.made import lines, odd

from slm_math.records.encoding import from_json, json_line
from slm_math.records.record import Record
from slm_math.watching.rows import brief


def check(line: bytes, record: Record) -> None:
    found = brief(line.rstrip(b"\n"))
    assert found is not None
    assert (found.id, found.sample, found.correct) == (record.id, record.sample, record.correct)
    assert found.answered == (record.answer is not None)
    assert found.broken == (record.error is not None)
    assert (found.truncated, found.tokens) == (record.truncated, record.tokens)
    assert set(found.rewards) == set(record.rewards)
    for role, reward in record.rewards.items():
        assert str(found.rewards[role]) == str(reward)  # also of NaN


@pytest.mark.parametrize("record", odd(), ids=range(len(odd())))
def test_rollouts_and_records(record: Record) -> None:
    line = lines(3, 17, [record], step=5)
    check(line, from_json(json.loads(line)))
    found = brief(line)
    assert found is not None
    assert (found.epoch, found.batch, found.step) == (3, 17, 5)
    check(json_line(record), record)


def test_lines_of_other_programs() -> None:
    assert brief(b'{"id": 5, "sample": 1, "correct": true}').correct  # type: ignore[union-attr]
    for line in (b"", b"[]", b"7", b"{", b'{"id": "a"}', b'{"id": "a", "sample": "x"}', b"\xff"):
        assert brief(line) is None


def test_a_line_nested_beyond_all_reason_is_no_record() -> None:
    assert brief(b"[" * 100_000) is None
    assert brief(b'{"id": ' + b"[" * 100_000) is None
