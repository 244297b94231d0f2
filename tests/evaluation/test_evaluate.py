"""Evaluations as they run: what is on disk at every moment, what goes on, what is counted."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from evaluation.one_by_one import TASKS, OneByOne, lines, parts, run
from rich.console import Console

from slm_math.engines.base import EngineError
from slm_math.evaluation.evaluate import occupancy
from slm_math.evaluation.table import results_table
from slm_math.metrics.summary import summarize
from slm_math.records.files import expected_samples, read_records
from slm_math.types import Reply


def test_record_is_on_disk_before_the_next_problem_ends(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(answered: int) -> None:
        found = lines(tmp_path)
        assert all(line.endswith(b"\n") for line in found)
        seen.append(len([json.loads(line) for line in found]))

    run(tmp_path, OneByOne(before=look))
    assert seen == [0, 1, 2, 3, 4, 5]


def test_manifest_says_partial_until_the_end(tmp_path: Path) -> None:
    seen: list[tuple[bool, Any]] = []

    def look(answered: int) -> None:
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        seen.append((manifest["partial"], manifest["finished"]))

    run(tmp_path, OneByOne(before=look))
    manifest, summary = parts(tmp_path)
    assert seen == [(True, None)] * 6
    assert (manifest["partial"], manifest["records"], summary["partial"]) == (False, 6, False)
    assert manifest["started"] <= manifest["finished"]


def test_every_record_is_reported_to_progress(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    run(
        tmp_path,
        OneByOne(),
        progress=lambda records, total: calls.append((len(records), total)),
        samples=2,
    )
    assert calls == [(i, 12) for i in range(1, 13)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupt_leaves_a_partial_result_that_resumes(
    error: type[BaseException], tmp_path: Path
) -> None:
    def stop(answered: int) -> None:
        if answered == 2:
            raise error

    cut = OneByOne(before=stop)
    with pytest.raises(error):
        run(tmp_path, cut)
    assert cut.open == {}  # nothing is left behind in an engine that lives on
    manifest, summary = parts(tmp_path)
    assert (manifest["partial"], manifest["finished"], manifest["records"]) == (True, None, 2)
    assert (summary["partial"], summary["n"], summary["problems"]) == (True, 2, 2)
    assert len(read_records(tmp_path / "records.jsonl")) == 2
    first = lines(tmp_path)
    again = OneByOne()
    assert run(tmp_path, again).n == 6
    assert [request.key[2] for request in again.requests] == [task.problem.id for task in TASKS[2:]]
    assert lines(tmp_path)[:2] == first
    after, summary = parts(tmp_path)
    assert (after["partial"], after["records"], summary["partial"]) == (False, 6, False)
    assert after["started"] == manifest["started"]


def test_interrupted_summary_is_shown_as_partial(tmp_path: Path) -> None:
    def stop(answered: int) -> None:
        if answered == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, OneByOne(before=stop), samples=2)
    found = summarize(read_records(tmp_path / "records.jsonl"), expected_samples(tmp_path))
    out = io.StringIO()
    Console(file=out, width=160).print(results_table("x", {"one": found}))
    assert re.search(r"n = 5 of 12 samples of \d problems \(partial\)", out.getvalue())


@pytest.mark.parametrize("cut", [0, 1, 2, 5])
def test_evaluation_resumes_after_the_last_whole_record(cut: int, tmp_path: Path) -> None:
    run(tmp_path, OneByOne())
    whole = lines(tmp_path)
    incomplete = b"?" * (len(whole[cut]) - 9)  # unlike the line that takes its place
    (tmp_path / "records.jsonl").write_bytes(b"".join(whole[:cut]) + incomplete)
    again = OneByOne()
    assert run(tmp_path, again).n == 6
    assert len(again.requests) == 6 - cut
    assert lines(tmp_path)[:cut] == whole[:cut]
    assert [json.loads(line)["id"] for line in lines(tmp_path)] == [
        task.problem.id for task in TASKS
    ]


def test_only_missing_samples_are_run(tmp_path: Path) -> None:
    run(tmp_path, OneByOne(), samples=3)
    kept = [line for line in lines(tmp_path) if json.loads(line)["sample"] != 1]
    (tmp_path / "records.jsonl").write_bytes(b"".join(kept))
    again = OneByOne()
    run(tmp_path, again, samples=3)
    assert [request.key[2:4] for request in again.requests] == [
        (task.problem.id, 1) for task in TASKS
    ]
    assert len({request.key for request in again.requests}) == 6


def test_broken_sample_is_recorded_and_counted_as_not_right(tmp_path: Path) -> None:
    down = OneByOne(
        lambda request: EngineError("it is down") if request.key[2] == "p/0" else r"\boxed{1}"
    )
    summary = run(tmp_path, down)
    broken = read_records(tmp_path / "records.jsonl")[0]
    assert (broken.id, broken.error, broken.correct, broken.answer) == (
        "p/0",
        "it is down",
        False,
        None,
    )
    assert (summary.n, summary.errors, summary.accuracy) == (6, 1, 0.0)
    before = lines(tmp_path)
    assert run(tmp_path, OneByOne()).accuracy == pytest.approx(1 / 6)
    assert lines(tmp_path)[:5] == before[1:]  # only the record of the failure is gone
    assert len(lines(tmp_path)) == 6


NASTY = "\ud800 [red]x[/] \x00\x1b[2J \u2028</script>{{7*7}} " + "y" * 100_000 + r" \boxed{1}"


def test_text_of_any_kind_is_recorded_and_read_back(tmp_path: Path) -> None:
    run(tmp_path, OneByOne(NASTY))
    assert len(lines(tmp_path)) == 6
    assert [record.turns[0].reply for record in read_records(tmp_path / "records.jsonl")] == [
        NASTY
    ] * 6
    again = OneByOne()
    assert run(tmp_path, again).accuracy == pytest.approx(1 / 6)
    assert again.requests == []


def test_rates_are_counted_by_hand(tmp_path: Path) -> None:
    replies = {
        "p/0": r"so \boxed{1}",  # right, in a box
        "p/1": "The answer is 2.",  # right, not in a box
        "p/2": "2 and 1 make 3",  # states nothing, the last number is right
        "p/3": r"It is \boxed{4} or \boxed{5}.",  # names two
        "p/4": Reply("I begin by", finish="length", counted=9),
        "p/5": r"\boxed{7}",
    }
    found = run(tmp_path, OneByOne(lambda request: replies[request.key[2]])).metrics
    counts = [round(6 * found[name]) for name in ("accuracy", "strict", "lenient", "hedged")]
    assert counts == [2, 1, 3, 1]
    assert (round(6 * found["truncated"]), found["tokens"]) == (1, pytest.approx((5 * 3 + 9) / 6))
    assert round(6 * found["no_answer"]) >= 2


def test_occupancy_is_the_share_of_slots_that_sampled() -> None:
    before = {"slots": 4, "steps": 10, "tokens": 30, "prefills": 2}
    after = {"slots": 4, "steps": 20, "tokens": 60, "prefills": 5}
    expected = {"slots": 4, "steps": 10, "tokens": 30, "prefills": 3, "occupancy": 0.75}
    assert occupancy(before, after) == expected
    assert occupancy(before, before) == occupancy({}, {}) == {}
