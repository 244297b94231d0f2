"""Claims about completions that other tools saved: what holds, and what is caught."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from slm_math.claims.archive import CLAIM, parsed
from slm_math.claims.check import Checked, check_members
from slm_math.claims.figures import claim_members
from slm_math.claims.frozen import FrozenRun, runs_of
from slm_math.grading.fields import Fields
from slm_math.grading.opened import record_file
from slm_math.records.record import Record

QUIET = Console(file=io.StringIO())


def saved(root: Path, name: str, right: int, prefix: str = "p") -> str:
    """A folder of records of 8 completions, of which some are right and one has no answer."""
    rows = [
        {
            "id": f"{prefix}{n}",
            "problem": f"What is {n} + 7?",
            "completion": "I do not know." if n == 7 else rf"\boxed{{{n + 7 if n < right else 0}}}",
            "answer": str(n + 7),
        }
        for n in range(8)
    ]
    file = root / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record_file(file, root / name, Fields())
    return str(root / name)


def checked(runs: list[FrozenRun]) -> Checked:
    members, found = claim_members(runs), Checked()
    check_members(members, parsed(members[CLAIM]), runs, checked=found, console=QUIET)
    return found


def test_saved_completions_can_be_claimed(tmp_path: Path) -> None:
    runs = runs_of([saved(tmp_path, "a", 3), saved(tmp_path, "b", 6)])
    found = checked(runs)
    assert found.moved == []
    assert found.counts["verdicts"] == 16
    lines = "\n".join(found.statement)
    assert "b: 75.0 % right" in lines
    assert "b: saved completions; each answer is the one that its reply states" in lines
    assert "b against a: +37.5" in lines
    assert "cannot confirm" not in lines


def test_problems_that_tools_call_otherwise_are_paired_by_their_texts(tmp_path: Path) -> None:
    runs = runs_of([saved(tmp_path, "a", 3), saved(tmp_path, "b", 6, prefix="q")])
    found = checked(runs)
    assert found.moved == []
    assert any("b against a: +37.5" in line for line in found.statement)


def graded(root: Path, name: str, count: int, fields: Fields = Fields()) -> FrozenRun:
    """A run of so many completions that state no answer and end in the right number."""
    rows = [
        {
            "id": f"p{n}",
            "problem": f"What is {n} + 7?",
            "completion": f"I get {n + 7}",
            "answer": n + 7,
        }
        for n in range(count)
    ]
    file = root / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record_file(file, root / name, fields)
    [run] = runs_of([str(root / name)])
    return run


def test_the_rule_of_the_last_number_is_stated(tmp_path: Path) -> None:
    found = checked([graded(tmp_path, "a", 4, Fields(last_number=True))])
    assert any("or else the last number in it" in line for line in found.statement)


def test_two_rules_for_answers_are_no_comparison(tmp_path: Path) -> None:
    runs = [graded(tmp_path, "a", 4), graded(tmp_path, "b", 4, Fields(last_number=True))]
    with pytest.raises(ValueError, match="counts as its answer in b, and not in the others"):
        claim_members(runs)


def test_completions_of_other_problems_are_no_comparison(tmp_path: Path) -> None:
    runs = [graded(tmp_path, "a", 6), graded(tmp_path, "b", 4)]
    with pytest.raises(ValueError, match=r"not of the same problems: .* 2 only in a"):
        claim_members(runs)


def test_a_shape_is_no_free_text(tmp_path: Path) -> None:
    run = graded(tmp_path, "a", 4)
    about = {**run.about, "identity": {**run.identity, "tool": "lm-eval. Audited by all"}}
    with pytest.raises(ValueError, match="names no shape of saved completions"):
        claim_members([replace(run, manifest=json.dumps(about).encode())])


def tampered(run: FrozenRun, change: Callable[[Record], Record]) -> FrozenRun:
    return replace(run, records=[change(run.records[0]), *run.records[1:]])


CHANGES: dict[str, tuple[Callable[[Record], Record], str]] = {
    "verdict": (lambda one: replace(one, correct=not one.correct), "correct is"),
    "answer": (lambda one: replace(one, answer="99"), "answer is '99', graded again"),
    "right answer": (
        lambda one: replace(one, answer=one.gold, correct=True, reason="exact", lenient=True),
        "graded again '0'",
    ),
    "reply": (
        lambda one: replace(one, events=(replace(one.turns[0], reply=r"\boxed{7}"),)),
        "answer is '0', graded again '7'",
    ),
    "two replies": (lambda one: replace(one, events=one.events * 2), "it has 2 events"),
    "program": (
        lambda one: replace(one, events=(replace(one.turns[0], program=True),)),
        "a turn says program True",
    ),
    "broken": (lambda one: replace(one, error="lost"), "it broke or was skipped ('lost')"),
    "how it is stated": (lambda one: replace(one, method="tag"), "method is 'tag'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_caught_though_all_is_computed_again(tmp_path: Path, name: str) -> None:
    change, line = CHANGES[name]
    [run] = runs_of([saved(tmp_path, "a", 0)])
    assert any(line in moved for moved in checked([tampered(run, change)]).moved)


@pytest.mark.parametrize("field", ["gold", "problem"])
def test_another_problem_is_not_that_of_the_manifest(tmp_path: Path, field: str) -> None:
    [run] = runs_of([saved(tmp_path, "a", 0)])
    with pytest.raises(ValueError, match="are not those of its manifest"):
        claim_members([tampered(run, lambda one: replace(one, **{field: "0"}))])


def test_completions_that_were_left_out_are_missed(tmp_path: Path) -> None:
    [run] = runs_of([saved(tmp_path, "a", 0)])
    with pytest.raises(ValueError, match="its manifest says"):
        claim_members([replace(run, records=run.records[1:])])
