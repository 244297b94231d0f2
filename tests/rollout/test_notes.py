"""Notes on their way from agents through the scheduler into records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rollout.scripted import Scene, Scripted, printing, served_by

from slm_math.agents import Agent, BackwardCheck, MajorityVote, SolverVerifier, parallel
from slm_math.answers.graded import grade_trace
from slm_math.engines.base import EngineError, Request
from slm_math.evaluation.evaluate import Output, Plan, evaluate
from slm_math.metrics.rounds import round_metrics, verdict_counts
from slm_math.records.encoding import json_line, to_json
from slm_math.records.files import read_records
from slm_math.records.record import record
from slm_math.rollout.collect import run_agent
from slm_math.types import Generate, Note, Problem, Reply, RunPython, Task, Trace, user

TASK = Task(Problem("p/1", "What is 3 + 4?"), "7")


def traced(agent: Agent, say: Any = lambda request: Reply(r"\boxed{7}")) -> Trace:
    engines = served_by(Scripted(say), printing("7\n"))
    [trace] = run_agent(agent, [(TASK.problem, 0)], engines)
    return trace


def kinds(trace: Trace) -> list[str]:
    return [
        event.kind if isinstance(event, Note) else type(event).__name__ for event in trace.events
    ]


def test_a_workflow_of_notes_only_is_a_trace() -> None:
    def scene() -> Iterator[Any]:
        got = yield [Note("draft", "6"), Note("draft", "7")]
        assert got == [None, None]
        got = yield [Note("stop", "rounds")]
        assert got == [None]
        return "7"

    trace = traced(Scene(scene))
    assert (kinds(trace), trace.answer, trace.turns) == (["draft", "draft", "stop"], "7", ())


def test_a_workflow_without_anything_is_a_trace() -> None:
    def scene() -> Iterator[Any]:
        assert (yield from parallel([])) == []

    trace = traced(Scene(scene))
    assert (trace.events, trace.answer) == ((), None)


def test_notes_and_requests_of_one_list_stay_in_order() -> None:
    def scene() -> Iterator[Any]:
        got = yield [
            Note("draft", "a"),
            Generate(user("q")),
            Note("verdict", "b"),
            RunPython("1"),
            Note("vote", "c"),
        ]
        assert [type(result).__name__ for result in got] == [
            "NoneType",
            "Reply",
            "NoneType",
            "RunResult",
            "NoneType",
        ]
        yield [Note("stop", "d")]
        return None

    trace = traced(Scene(scene, uses_python=True))
    assert kinds(trace) == [
        "draft",
        "Turn",
        "verdict",
        "Run",
        "vote",
        "stop",
    ]


def test_replies_are_recorded_in_request_order() -> None:
    def scene() -> Iterator[Any]:
        replies = yield [Generate(user(str(n))) for n in range(4)]
        return "".join(reply.text for reply in replies)

    trace = traced(Scene(scene), lambda request: Reply(request.chat[0].text))
    assert trace.answer == "0123"
    assert [turn.reply.text for turn in trace.turns] == ["0", "1", "2", "3"]


def test_notes_do_not_shift_the_keys_of_requests() -> None:
    def scene(chatty: bool) -> Iterator[Any]:
        for n in range(2):
            if chatty:
                yield [Note("draft", "x")]
            yield [*([Note("draft", "y")] if chatty else []), Generate(user(str(n)))]

    keys = []
    for chatty in (False, True):
        engine = Scripted(lambda request: Reply("r"))
        agent, sandbox = Scene(lambda chatty=chatty: scene(chatty)), Scripted(None)
        list(run_agent(agent, [(TASK.problem, 0)], served_by(engine, sandbox)))
        keys.append([request.key for request in engine.asked])
    assert keys[0] == keys[1]


def test_requests_of_one_list_have_keys_in_their_order() -> None:
    def scene() -> Iterator[Any]:
        yield [Generate(user("0")), Note("draft", "x"), Generate(user("1"))]
        yield [Generate(user("2"))]

    engine, sandbox = Scripted(lambda request: Reply("r")), Scripted(None)
    list(run_agent(Scene(scene), [(TASK.problem, 5)], served_by(engine, sandbox)))
    assert [(request.chat[0].text, request.key) for request in engine.asked] == [
        (str(n), ("p/1", 5, n + 1)) for n in range(3)
    ]


def test_note_after_the_last_reply_is_recorded() -> None:
    trace = traced(MajorityVote(k=2))
    assert kinds(trace) == ["Turn", "Turn", "candidate", "candidate", "vote"]
    assert [note.branch for note in trace.notes] == [(0,), (1,), ()]


def test_an_empty_list_is_a_mistake_that_names_the_agent() -> None:
    def scene() -> Iterator[Any]:
        yield []

    with pytest.raises(ValueError, match="Scene must yield lists of requests that are not empty"):
        traced(Scene(scene))


def test_an_empty_list_side_by_side_is_a_mistake_too() -> None:
    def scene() -> Iterator[Any]:
        yield []
        yield [Generate(user("q"))]

    with pytest.raises(ValueError, match="empty list"):
        traced(Scene(lambda: parallel([scene()])))


def fails_on(text: str) -> Any:
    return lambda request: (
        EngineError("down") if text in request.chat[0].text else Reply(r"\boxed{7}")
    )


def test_notes_before_an_engine_error_are_recorded() -> None:
    def scene() -> Iterator[Any]:
        yield [Generate(user("fine"))]
        yield [Note("draft", "7")]
        yield [Generate(user("broken"))]

    trace = traced(Scene(scene), fails_on("broken"))
    assert (kinds(trace), trace.answer, trace.error) == (["Turn", "draft"], None, "down")


def test_results_beside_a_failing_request_are_recorded() -> None:
    """Newest first, the executor answers "fine" before it fails on "broken"."""

    def asks(text: str) -> Iterator[Any]:
        yield [Generate(user("fine"))]
        yield [Note("draft", text)]
        yield [Generate(user(text))]

    trace = traced(Scene(lambda: parallel([asks("broken"), asks("fine")])), fails_on("broken"))
    assert kinds(trace) == ["Turn", "Turn", "draft", "draft", "Turn"]


def record_of(task: Task, trace: Trace) -> dict[str, Any]:
    return to_json(record(grade_trace(task, trace)))


def test_records_grade_drafts_and_candidates_and_nothing_else() -> None:
    notes = (
        Note("draft", r"\frac{14}{2}"),
        Note("draft", None),
        Note("candidate", "8", branch=(1, 0)),
        Note("verdict", "CORRECT", role="verifier", branch=(1, 0)),
        Note("vote", "7", 2 / 3),
        Note("lost", "empty", role="solver"),
        Note("stop", "rounds"),
    )
    assert record_of(TASK, Trace(TASK.problem, 0, notes, "7"))["events"] == [
        {"kind": "note", "note": "draft", "text": r"\frac{14}{2}", "correct": True},
        {"kind": "note", "note": "draft", "text": None, "correct": False},
        {"kind": "note", "note": "candidate", "text": "8", "correct": False, "branch": [1, 0]},
        {
            "kind": "note",
            "note": "verdict",
            "text": "CORRECT",
            "role": "verifier",
            "branch": [1, 0],
        },
        {"kind": "note", "note": "vote", "text": "7", "value": 0.6667},
        {"kind": "note", "note": "lost", "text": "empty", "role": "solver"},
        {"kind": "note", "note": "stop", "text": "rounds"},
    ]


def test_a_share_of_zero_is_written_down() -> None:
    [event] = record_of(TASK, Trace(TASK.problem, 0, (Note("vote", None, 0.0),), None))["events"]
    assert event == {"kind": "note", "note": "vote", "text": None, "value": 0.0}


def test_a_draft_is_graded_by_the_rules_of_its_problem() -> None:
    choice = Task(Problem("p", "?", "mc", ("5", "7")), "B")
    number = Task(Problem("p", "?", "num"), "7", tolerance="1%")
    for task, text in ((choice, "7"), (number, "7.05")):
        [event] = record_of(task, Trace(task.problem, 0, (Note("draft", text),), None))["events"]
        assert event["correct"] is True


@pytest.mark.parametrize("text", ["\x00\x1b[31m", "\ud800", "</script>{}", "9" * 100_000, "\u2028"])
def test_hostile_notes_are_one_line_of_json(text: str) -> None:
    line = json_line(record_of(TASK, Trace(TASK.problem, 0, (Note("draft", text),), None)))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["events"][0]["text"] == text


def test_rounds_of_a_real_evaluation(tmp_path: Path) -> None:
    """The solver is wrong in its first draft; the verifier notices."""

    def say(request: Request) -> Reply:
        text = request.chat[-1].text
        if "VERDICT" in text and "proposed solution" in text:
            return Reply("VERDICT: CORRECT" if "{7}" in text else "VERDICT: INCORRECT")
        return Reply(r"\boxed{7}" if "reviewer" in text else r"\boxed{6}")

    sandbox: Any = Scripted(None)
    sandbox.identity = dict
    engine = Scripted(say)
    evaluate(Plan(SolverVerifier(), [TASK]), served_by(engine, sandbox), Output(tmp_path))
    rows = read_records(tmp_path / "records.jsonl")
    assert verdict_counts(rows)["verifier"] == {("INCORRECT", False): 1, ("CORRECT", True): 1}
    values = round_metrics(rows)
    assert (
        values["rounds"],
        values["improved"],
        values["round_1/accuracy"],
        values["round_2/accuracy"],
    ) == (
        2,
        1,
        0,
        1,
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "improved" in json.dumps(summary)


def test_an_answer_in_a_box_counts_as_boxed_when_a_program_tests_it() -> None:
    trace = traced(
        BackwardCheck(),
        lambda r: Reply("```python\n1\n```" if "propose" in r.chat[0].text else r"\boxed{7}"),
    )
    row = record_of(TASK, trace)
    assert (row["correct"], row["method"]) == (True, "box")


def test_workflow_may_go_on_without_a_reply_that_never_came() -> None:
    def scene() -> Iterator[Any]:
        try:
            yield [Generate(user("fine")), Generate(user("broken"))]
        except EngineError as error:
            yield [Note("lost", str(error))]
        [reply] = yield [Generate(user("fine again"))]
        return reply.text

    trace = traced(Scene(scene), fails_on("broken"))
    assert (kinds(trace), trace.error) == (["Turn", "lost", "Turn"], None)
    assert trace.answer == r"\boxed{7}"
