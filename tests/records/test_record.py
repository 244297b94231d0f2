"""Records: made from graded traces, written as JSON, read back; old and foreign ones."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from slm_math.answers.graded import GradedTrace, grade_trace
from slm_math.records.encoding import SCHEMA, from_json, json_line, to_json
from slm_math.records.record import (
    ChatMessage,
    NoteEvent,
    Record,
    RunEvent,
    TurnEvent,
    record,
)
from slm_math.types import (
    Draft,
    Generate,
    Image,
    Note,
    Problem,
    Reply,
    Run,
    RunResult,
    Task,
    Trace,
    Turn,
    user,
)

TASK = Task(Problem("p", "What is 3 + 4?", tags={"level": "2"}), "7")
TRACE = Trace(
    TASK.problem,
    sample=1,
    events=(
        Turn(
            Generate(user("What is 3 + 4?")),
            Reply(r"So \boxed{7}", token_ids=(1, 2, 3), prompt_ids=(4, 5), seconds=0.5),
        ),
        Run("print(7)", RunResult(True, stdout="7\n", seconds=0.25), earlier=("x = 7",)),
        Note("draft", "8", branch=(1, 0)),
        Note("verdict", "CORRECT", role="verifier"),
        Note("vote", "7", 2 / 3),
    ),
    answer="7",
    seconds=1.5,
)


def test_record_of_a_trace_is_typed() -> None:
    made = record(grade_trace(TASK, TRACE))
    assert made.key == ("p", 1)
    assert (made.correct, made.method, made.hedged, made.lenient) == (True, "box", False, True)
    assert made.turns == (
        TurnEvent(
            role="solver",
            prompt=(ChatMessage("user", "What is 3 + 4?"),),
            reply=r"So \boxed{7}",
            prompt_tokens=2,
            tokens=3,
            seconds=0.5,
        ),
    )
    assert made.runs == (RunEvent("print(7)", ("x = 7",), True, "7", seconds=0.25),)
    assert made.notes == (
        NoteEvent("draft", "8", correct=False, branch=(1, 0)),
        NoteEvent("verdict", "CORRECT", role="verifier"),
        NoteEvent("vote", "7", value=0.6667),
    )
    assert (made.tokens, made.truncated) == (3, False)


def test_record_takes_the_decisions_of_the_graded_trace() -> None:
    graded = grade_trace(TASK, TRACE)
    swapped = dict(zip(graded.decisions, reversed(graded.decisions.values())))
    made = record(GradedTrace(TASK, TRACE, swapped["7"], swapped))
    assert not made.correct
    assert made.notes[0].correct


def test_record_survives_json() -> None:
    made = record(grade_trace(TASK, TRACE))
    trained = made.with_training({"solver": {"correct": 1.0}}, {"solver": 0.5}, {"solver": -0.25})
    for each in (made, trained):
        assert from_json(json.loads(json_line(each))) == each


def test_rules_of_other_answer_types_survive_json() -> None:
    choices = Problem("c", "Which?", "mc", ("red", "blue"))
    number = Problem("n", "How long?", "num")
    for task in (Task(choices, "A"), Task(number, "1.5", tolerance="1%")):
        made = record(grade_trace(task, Trace(task.problem, 0, (), "A")))
        assert from_json(json.loads(json_line(made))) == made


def test_json_has_a_schema_number_and_only_what_applies() -> None:
    data = to_json(record(grade_trace(TASK, TRACE)))
    assert data["schema"] == SCHEMA == 2
    assert not {"choices", "tolerance", "answer_type", "parts", "rewards", "advantages"} & set(data)
    assert data["events"][2] == {
        "kind": "note",
        "note": "draft",
        "text": "8",
        "correct": False,
        "branch": [1, 0],
    }


def test_missing_scores_are_null_on_disk_and_nan_in_memory() -> None:
    made = record(grade_trace(TASK, TRACE)).with_training(
        {"solver": {"a": math.nan}}, {"solver": math.nan}
    )
    row = json.loads(json_line(made))
    assert row["rewards"] == {"solver": None}
    assert math.isnan(from_json(row).rewards["solver"])
    assert math.isnan(from_json(row).parts["solver"]["a"])


def test_record_without_a_schema_number_is_of_version_1() -> None:
    made = record(grade_trace(TASK, TRACE))
    row = to_json(made)
    del row["schema"]
    assert from_json(row) == from_json(row | {"schema": 1}) == made


def test_fields_that_old_records_lack_take_their_defaults() -> None:
    old = from_json({"id": "p", "sample": 0, "correct": True, "events": [{"kind": "turn"}]})
    assert (old.correct, old.lenient, old.hedged, old.method) == (True, True, False, "")
    assert old.events == (TurnEvent(),)
    assert from_json({"id": "p", "sample": 0}) == Record("p", 0, has_verdict=False)


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "2", None, True])
def test_unknown_schema_is_refused_with_its_version(schema: object) -> None:
    with pytest.raises(ValueError, match=f"schema version {schema!r}.*use a newer slm-math"):
        from_json({"id": "p", "sample": 0, "schema": schema})


def test_record_without_texts_keeps_what_metrics_need() -> None:
    made = record(grade_trace(TASK, TRACE))
    small = made.without_texts()
    assert small.turns == (replace(made.turns[0], prompt=(), reply=""),)
    assert small.runs == (RunEvent(ok=True, seconds=0.25),)
    assert small.notes == made.notes
    assert b"3 + 4" not in json_line(small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": "zero"}, "field sample is 'zero', of type str"),
        ({"events": [{"kind": "dance"}]}, "event 0 is of the unknown kind 'dance'"),
        ({"answer": 7}, "field answer is 7"),
    ],
)
def test_a_record_of_this_schema_with_odd_fields_is_refused(
    change: dict[str, object], message: str
) -> None:
    row = to_json(record(grade_trace(TASK, TRACE))) | change
    with pytest.raises(ValueError, match=message):
        from_json(row)
    assert from_json({**row, "schema": 1}).id == TASK.problem.id


def test_the_draft_that_a_verdict_is_about_survives_json() -> None:
    verdict = Record("d", 0, answer_type="verdict", draft=Draft("3 + 4 = 8", "8"))
    assert from_json(json.loads(json_line(verdict))) == verdict
    assert verdict.without_texts().draft is None
    assert "draft" not in to_json(Record("p", 0))


def test_prompt_tokens_are_those_that_a_server_counts_where_there_are_no_ids() -> None:
    turn = Turn(Generate(user("What is 3 + 4?")), Reply(r"\boxed{7}", asked=9, counted=4))
    trace = Trace(TASK.problem, 0, (turn,), "7")
    [event] = record(grade_trace(TASK, trace)).turns
    assert (event.prompt_tokens, event.tokens) == (9, 4)


def test_images_are_kept_by_path_and_hash(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"pixels")
    url = "data:image/png;base64,AAAA"
    problem = replace(TASK.problem, images=(Image(str(file)), Image(url), Image("b.png", True)))
    task = replace(TASK, problem=problem)
    trace = Trace(problem, 0, (Turn(Generate(user("?", problem.images)), Reply("7")),), "7")
    made = record(grade_trace(task, trace))
    assert [image.source for image in made.images] == [str(file), "", str(Path("b.png").resolve())]
    assert made.images[0].hash == hashlib.sha256(b"pixels").hexdigest()
    assert [image.blank for image in made.images] == [False, False, True]
    assert made.turns[0].prompt[0] == ChatMessage("user", "?", made.images)
    assert b"base64" not in json_line(made)
    assert from_json(json.loads(json_line(made))) == made


def test_a_record_shows_the_choices_of_its_problem() -> None:
    made = Record("p", 0, problem="How many?", choices=("one", "two"))
    assert made.statement == "How many?\n(A) one\n(B) two"
