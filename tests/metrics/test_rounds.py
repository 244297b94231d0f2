"""Metrics of rounds, verdicts, votes and programs, with values worked out by hand."""

import json
from typing import Any

import pytest

from slm_math.metrics.calibration import winner_shares
from slm_math.metrics.facts import correct_by_round
from slm_math.metrics.records import record_metrics
from slm_math.metrics.rounds import (
    agent_metrics,
    code_metrics,
    round_metrics,
    verdict_counts,
    verdict_metrics,
)
from slm_math.records.encoding import from_json, json_line
from slm_math.records.record import Record


def draft(
    correct: bool, *branch: int, text: str | None = "x", kind: str = "draft"
) -> dict[str, Any]:
    note = {"kind": "note", "note": kind, "text": text, "correct": correct}
    return note | ({"branch": list(branch)} if branch else {})


def candidate(correct: bool, *branch: int) -> dict[str, Any]:
    return draft(correct, *branch, kind="candidate")


def note(kind: str, text: str | None, *branch: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "note",
        "note": kind,
        "text": text,
        **more,
        **({"branch": list(branch)} if branch else {}),
    }


def verdict(word: str, *branch: int) -> dict[str, Any]:
    return note("verdict", word, *branch, role="verifier")


def turn(program: bool) -> dict[str, Any]:
    return {"kind": "turn", "role": "solver", "program": program, "finish": "stop", "tokens": 3}


def run(ok: bool) -> dict[str, Any]:
    return {
        "kind": "run",
        "ok": ok,
        "timed_out": False,
        "seconds": 0.1,
        "error_type": "" if ok else "NameError",
    }


def row(correct: bool, *events: dict[str, Any], **more: Any) -> Record:
    base = {"id": "p", "sample": 0, "answer": "x", "correct": correct, "reason": "", "error": None}
    return from_json(base | {"events": list(events)} | more)


# right at once; corrected in round 2; degraded in round 2; wrong for three rounds
FOUR = [
    row(True, draft(True)),
    row(True, draft(False), draft(True)),
    row(False, draft(True), draft(False)),
    row(False, draft(False), draft(False), draft(False)),
]


def test_drafts_side_by_side_are_no_rounds() -> None:
    events = [draft(True), note("stop", "rounds"), draft(True, 0), candidate(True), draft(False)]
    assert correct_by_round(row(True, *events)) == [True, False]


def test_rounds_of_four_records() -> None:
    assert round_metrics(FOUR) == {
        "rounds": (1 + 2 + 2 + 3) / 4,
        "stayed_right": 1 / 4,
        "improved": 1 / 4,
        "degraded": 1 / 4,
        "failed": 1 / 4,
        "round_1/accuracy": 2 / 4,
        "round_2/accuracy": 2 / 4,
        "round_3/accuracy": 2 / 4,
        "after_1/share": 1 / 4,
        "after_1/accuracy": 1.0,
        "after_2/share": 2 / 4,
        "after_2/accuracy": 1 / 2,
        "after_3/share": 1 / 4,
        "after_3/accuracy": 0.0,
    }


def test_accuracy_by_round_when_it_improves() -> None:
    improving = [
        row(True, draft(False), draft(False), draft(True)),
        row(True, draft(False), draft(True)),
    ]
    values = round_metrics(improving)
    assert [values[f"round_{r}/accuracy"] for r in (1, 2, 3)] == [0, 1 / 2, 1]
    assert "after_1/accuracy" not in values
    assert values["after_1/share"] == 0


def test_shares_add_up_whatever_the_records() -> None:
    values = round_metrics([*FOUR, row(True, draft(False)), row(False, draft(True)), row(True)])
    assert sum(
        values[name] for name in ("stayed_right", "improved", "degraded", "failed")
    ) == pytest.approx(1)
    assert sum(values[f"after_{r}/share"] for r in (1, 2, 3)) == pytest.approx(1)


def test_records_without_drafts_do_not_count() -> None:
    assert round_metrics([]) == round_metrics([row(True), row(True, candidate(True, 0))]) == {}
    assert round_metrics([*FOUR, row(True)]) == round_metrics(FOUR)


def test_an_answer_other_than_the_last_draft_is_the_final_one() -> None:
    """Plan and reflect puts the parts together after its last draft."""
    values = round_metrics([row(True, draft(False), draft(False))])
    assert (values["round_1/accuracy"], values["round_2/accuracy"], values["improved"]) == (0, 1, 1)


def test_stopped_after_a_silent_round_the_earlier_answer_stands() -> None:
    values = round_metrics([row(False, draft(True), draft(False, text=None), draft(False))])
    assert values["round_2/accuracy"] == 1


def test_verdicts_by_what_they_were_about() -> None:
    rows = [
        row(True, draft(False), verdict("INCORRECT"), draft(True), verdict("CORRECT")),
        row(False, draft(False), verdict("CORRECT")),
        row(
            True,
            candidate(True, 0),
            candidate(False, 1),
            verdict("UNCLEAR", 0),
            verdict("UNCLEAR", 1),
            verdict("INCORRECT", 0),
        ),
        row(True, verdict("CORRECT")),
    ]
    assert verdict_counts(rows)["verifier"] == {
        ("INCORRECT", False): 1,
        ("CORRECT", True): 1,
        ("CORRECT", False): 1,
        ("UNCLEAR", True): 1,
        ("UNCLEAR", False): 1,
        ("INCORRECT", True): 1,
    }
    assert verdict_metrics(rows) == {
        "verdict_correct/right": 1,
        "verdict_correct/wrong": 1,
        "verdict_incorrect/right": 1,
        "verdict_incorrect/wrong": 1,
        "verdict_unclear/right": 1,
        "verdict_unclear/wrong": 1,
        "verifier_accuracy": 2 / 6,
        "verifier_balanced_accuracy": (1 / 3 + 1 / 3) / 2,
        "approves_right": 1 / 3,
        "approves_wrong": 1 / 3,
        "unclear": 2 / 6,
        "approved": 2 / 3,  # the last verdicts are CORRECT, CORRECT and INCORRECT
    }


def test_length_of_each_of_several_roles() -> None:
    rows = [row(True, turn(False), turn(False) | {"role": "verifier", "tokens": 8})]
    metrics = record_metrics(rows)
    assert (metrics["length/solver"], metrics["length/verifier"]) == (3, 8)
    assert "length/solver" not in record_metrics([row(True, turn(False))])


def test_without_verdicts_there_is_no_confusion() -> None:
    assert (
        verdict_metrics([])
        == verdict_metrics(FOUR)
        == verdict_metrics([row(True, verdict("CORRECT"))])
        == {}
    )


def test_a_draft_within_a_branch_is_not_what_an_outer_verdict_is_about() -> None:
    assert verdict_counts([row(True, draft(True), draft(False, 0), verdict("CORRECT"))])[
        "verifier"
    ] == {("CORRECT", True): 1}


def winners(rows: list[Record]) -> list[tuple[float, bool]]:
    found = winner_shares(rows)
    return list(zip(found.shares.tolist(), found.right.tolist()))


def test_votes_of_the_whole_agent() -> None:
    rows = [
        row(True, note("vote", "7", value=0.6)),
        row(False, note("vote", None, value=0.0)),
        row(False, note("vote", "7", 1, value=1.0), note("vote", "8", value=0.2)),
    ]
    assert winners(rows) == [(0.6, True), (0.2, False)]


def test_programs_by_sample() -> None:
    rows = [
        row(True, turn(True), run(False), turn(True), run(True)),
        row(False, turn(True), run(True), run(False)),
        row(True, turn(True)),
        row(False, turn(False)),
        row(False, turn(True), run(True)),
    ]
    assert code_metrics(rows) == {
        "code_written": 4 / 5,
        "code_run": 3 / 5,
        "code_succeeded": 2 / 5,
        "code_succeeded_accuracy": 1 / 2,
    }


def test_programs_that_nobody_wrote_or_that_all_failed() -> None:
    assert code_metrics([]) == code_metrics([row(True, turn(False))]) == {}
    assert code_metrics([row(True, turn(True), run(False))]) == {
        "code_written": 1,
        "code_run": 1,
        "code_succeeded": 0,
    }


def test_old_records_have_no_metrics_of_programs_or_notes() -> None:
    old = row(True, {"kind": "turn", "role": "solver", "finish": "stop", "tokens": 3}, run(True))
    assert agent_metrics([old]) == {"lost": 0.0}


def test_the_oracle_takes_any_answer_on_the_way() -> None:
    rows = [
        row(False, draft(True), draft(False)),
        row(False, candidate(False, 0), candidate(True, 1)),
        row(True, candidate(False, 0)),
        row(False, draft(False)),
    ]
    assert agent_metrics(rows)["oracle"] == 3 / 4
    assert "oracle" not in agent_metrics([row(True), row(False)])
    assert agent_metrics([row(False, draft(False))])["oracle"] == 0


def test_lost_replies_per_sample() -> None:
    rows = [
        row(True, note("lost", "empty"), note("lost", "truncated", 0)),
        row(True),
        row(True),
        row(True),
    ]
    assert agent_metrics(rows) == {"lost": 2 / 4}
    assert agent_metrics([row(True)]) == agent_metrics([]) == {"lost": 0.0}


def test_record_metrics_include_agent_metrics() -> None:
    rows = [
        row(True, turn(True), run(True), draft(True), verdict("CORRECT"), note("lost", "empty"))
    ]
    values = record_metrics(rows)
    assert values.items() >= agent_metrics(rows).items()
    assert {"rounds", "verifier_accuracy", "code_written", "oracle", "lost"} <= values.keys()


def test_records_read_back_or_without_texts_have_the_same_metrics() -> None:
    rows = [
        *FOUR,
        row(
            True,
            turn(True),
            run(True),
            candidate(True, 0),
            verdict("UNCLEAR", 0),
            note("vote", "7", value=0.5),
        ),
    ]
    again = [from_json(json.loads(json_line(record))) for record in rows]
    for other in (again, [record.without_texts() for record in rows]):
        assert agent_metrics(other) == agent_metrics(rows)
        assert winners(other) == winners(rows)
