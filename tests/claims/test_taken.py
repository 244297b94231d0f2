"""What a check says of answers that are taken as recorded, or that are said to be undecided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from claims.claimed import changed, checked, forged

from slm_math.answers.graded import grade_trace
from slm_math.claims.frozen import FrozenRun
from slm_math.claims.regrade import moved, stands_nowhere, task_of, trace_of_record
from slm_math.records.record import Record, RunEvent, verdict_fields


def graded(record: Record) -> Record:
    return replace(record, **verdict_fields(grade_trace(task_of(record), trace_of_record(record))))


def ran(record: Record, output: str, ok: bool = True) -> Record:
    run = RunEvent(code="print(1)", ok=ok, output=output)
    return replace(record, events=(*record.events, run))


@pytest.mark.parametrize("programs", [False, True])
def test_answers_that_were_exchanged_in_a_run_taken_as_recorded_are_counted(
    tmp_path: Path, runs: Sequence[FrozenRun], programs: bool
) -> None:
    """One changed prompt_hash keeps the agent from being run again."""
    manifest = json.loads(runs[0].manifest)
    manifest["identity"]["agent"]["prompt_hash"] = "0" * 16
    records = [ran(record, "-1\n") if programs else record for record in runs[0].records]
    wrong = [record for record in records if not record.correct]
    assert len(wrong) == 8
    records = [
        graded(record if record.correct else replace(record, answer=record.gold))
        for record in records
    ]
    assert {record.method for record in records if record.id == wrong[0].id} == {
        "program" if programs else "none"
    }
    run = replace(runs[0], records=records, manifest=json.dumps(manifest).encode())
    found = checked(forged(tmp_path / "c.zip", [run]))
    [line] = [line for line in found.statement if "taken as recorded" in line]
    assert line.endswith("8 of them stand in no reply and in no output of a program")


@pytest.mark.parametrize(
    ("output", "ok", "nowhere"),
    [
        ("8", True, False),
        ("x\n8\nNone", True, False),
        (r"so \boxed{8}", True, False),
        ("18", True, True),
        ("", True, True),
        ("8", False, True),
    ],
)
def test_an_answer_stands_in_an_output_if_a_line_is_it_or_states_it(
    runs: Sequence[FrozenRun], output: str, ok: bool, nowhere: bool
) -> None:
    record = next(record for record in runs[0].records if not record.correct)
    own = graded(replace(ran(record, output, ok), answer="8"))
    assert own.method == "program"
    assert stands_nowhere(own) is nowhere


@pytest.mark.parametrize("reason", ["timeout", "died", "unread", "too complex"])
def test_a_plain_wrong_answer_is_not_undecided(
    tmp_path: Path, runs: Sequence[FrozenRun], reason: str
) -> None:
    place = next(i for i, record in enumerate(runs[0].records) if not record.correct)
    run = changed(runs[0], place, lambda record: replace(record, reason=reason))
    found = checked(forged(tmp_path / "c.zip", [run]))
    [line] = found.moved
    assert f"reason is {reason!r}, graded again 'different'" in line


def test_an_answer_that_takes_algebra_may_be_undecided_on_another_machine(
    runs: Sequence[FrozenRun],
) -> None:
    """The reply of the algebra process is remembered from the first grading."""
    own = graded(replace(runs[0].records[0], answer=r"\lfloor x \rfloor", gold="x"))
    assert own.reason == "different"
    assert list(moved(replace(own, reason="timeout"))) == []
