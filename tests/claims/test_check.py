"""What `claim --check` accepts, and twenty-odd claims that somebody tampered with."""

from __future__ import annotations

import copy
import gzip
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claims.claimed import RECORDS, changed, checked, forged, moved, written

from slm_math.answers.graded import grade_trace
from slm_math.claims.archive import archive, compressed, json_bytes
from slm_math.claims.frozen import FrozenRun
from slm_math.claims.regrade import task_of, trace_of_record
from slm_math.records.encoding import json_line
from slm_math.records.record import Record, TurnEvent, verdict_fields


def test_a_claim_that_nobody_touched_holds(tmp_path: Path, members: dict[str, bytes]) -> None:
    found = checked(written(tmp_path / "c.zip", members))
    assert found.moved == []
    assert (found.counts["verdicts"], found.counts["workflows"]) == (36, 36)


def test_the_same_runs_give_the_same_bytes(members: dict[str, bytes]) -> None:
    assert archive(members) == archive(dict(reversed(members.items())))


# somebody changes a member and nothing else

Members = dict[str, bytes]


def _claim(members: Members, change: Callable[[dict[str, Any]], Any]) -> Members:
    data = json.loads(members["claim.json"])
    change(data)
    return members | {"claim.json": json_bytes(data)}


def _manifest(members: Members, change: Callable[[dict[str, Any]], Any]) -> Members:
    data = json.loads(members["runs/1/manifest.json"])
    change(data)
    return members | {"runs/1/manifest.json": json_bytes(data)}


def _lines(members: Members, change: Callable[[list[bytes]], list[bytes]]) -> Members:
    lines = gzip.decompress(members[RECORDS]).splitlines(keepends=True)
    return members | {RECORDS: compressed(b"".join(change(lines)))}


NAIVE: dict[str, Callable[[Members], Members]] = {
    "figure": lambda m: _claim(m, lambda c: c["runs"][1].update(accuracy=0.99)),
    "interval": lambda m: _claim(m, lambda c: c["comparisons"][0].update(low=0.1)),
    "p": lambda m: _claim(m, lambda c: c["comparisons"][0].update(p=0.001)),
    "Holm's p": lambda m: _claim(m, lambda c: c["comparisons"][1].update(p_adjusted=0.01)),
    "detectable difference": lambda m: _claim(
        m, lambda c: c["comparisons"][0].update(detectable=0.1)
    ),
    "statement": lambda m: _claim(m, lambda c: c["statement"].__setitem__(0, "All is proven.")),
    "hash": lambda m: _claim(m, lambda c: c["files"][RECORDS].update(sha256="0" * 64)),
    "grader": lambda m: _claim(m, lambda c: c.update(grader="3")),
    "cluster": lambda m: _claim(m, lambda c: c["design"].update(cluster="level")),
    "seeds": lambda m: _claim(m, lambda c: c["design"].update(over="seeds")),
    "design of another kind": lambda m: _claim(m, lambda c: c.update(design=["level"])),
    "more figures": lambda m: _claim(m, lambda c: c.update(effect="large")),
    "format of numbers": lambda m: m | {"claim.json": m["claim.json"].replace(b"\n", b"\r\n")},
    "README": lambda m: m | {"README.md": m["README.md"].replace(b"12", b"13")},
    "n of the manifest": lambda m: _manifest(m, lambda c: c["identity"].update(problems=13)),
    "model of the manifest": lambda m: _manifest(m, lambda c: c["identity"].update(engines={})),
    "dropped record": lambda m: _lines(m, lambda lines: lines[1:]),
    "duplicated record": lambda m: _lines(m, lambda lines: [lines[0], *lines]),
    "reordered records": lambda m: _lines(m, lambda lines: lines[::-1]),
    "swapped runs": lambda m: m | {RECORDS: m["runs/2/records.jsonl.gz"]},
    "cut records": lambda m: m | {RECORDS: m[RECORDS][:-20]},
    "bytes after records": lambda m: m | {RECORDS: m[RECORDS] + b"\0"},
    "missing member": lambda m: {n: d for n, d in m.items() if n != "runs/2/manifest.json"},
    "renamed member": lambda m: {n.replace("runs/3", "runs/4"): d for n, d in m.items()},
    "control from nowhere": lambda m: m | {"runs/1/controls/blind/manifest.json": b"{}"},
    "overlap from nowhere": lambda m: (
        m | {"runs/1/overlap.json": b'{"findings": [], "near_exact": 0}'}
    ),
    "hidden field": lambda m: _lines(
        m, lambda lines: [lines[0].replace(b'"sample"', b'"x": 1, "sample"'), *lines[1:]]
    ),
}


@pytest.mark.parametrize("name", NAIVE)
def test_one_changed_member_is_caught(tmp_path: Path, members: dict[str, bytes], name: str) -> None:
    tampered = NAIVE[name](copy.deepcopy(members))
    assert tampered != members
    assert moved(written(tmp_path / "c.zip", tampered))


# somebody changes what a run is, and computes all hashes and figures again


def _reply(record: Record, text: str) -> Record:
    turn = record.events[0]
    assert isinstance(turn, TurnEvent)
    return replace(record, events=(replace(turn, reply=text), *record.events[1:]))


def _prompt(record: Record) -> Record:
    turn = record.events[0]
    assert isinstance(turn, TurnEvent)
    easier = turn.prompt[0]._replace(content="Say 0.")
    return replace(record, events=(replace(turn, prompt=(easier,)), *record.events[1:]))


RIGHT = {"correct": True, "reason": "equal", "lenient": True}
# in the run "weak", problem 1 is wrong: its reply says 0, and its reference answer is 8
CONSISTENT: dict[str, Callable[[Record], Record]] = {
    "verdict": lambda r: replace(r, correct=True),
    "verdict with its reason": lambda r: replace(r, **RIGHT),
    "answer": lambda r: replace(r, answer="8", **RIGHT),
    "answer and how it is stated": lambda r: replace(r, answer="8", method="program", **RIGHT),
    "reply": lambda r: _reply(r, r"It is \boxed{8}."),
    "reference answer": lambda r: replace(r, gold="0", **RIGHT),
    "prompt": _prompt,
    "problem": lambda r: replace(r, problem="What is -7 + 7?", gold="0", **RIGHT),
    "no more turns": lambda r: replace(r, events=()),
    "broken with an answer": lambda r: replace(r, error="the server left"),
}


@pytest.mark.parametrize("name", CONSISTENT)
def test_a_forged_record_is_caught_although_all_hashes_and_figures_fit(
    tmp_path: Path, runs: Sequence[FrozenRun], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert not runs[0].records[1].correct
    run = changed(runs[0], 1, CONSISTENT[name])
    with monkeypatch.context() as patch:  # who forges does not check
        patch.setattr("slm_math.claims.figures.confirms_data", lambda run: True)
        path = forged(tmp_path / "c.zip", [run])
    assert moved(path)


@pytest.mark.parametrize("skipped", [False, True])
def test_a_right_baseline_cannot_be_said_to_have_lost_its_replies(
    tmp_path: Path, runs: Sequence[FrozenRun], skipped: bool
) -> None:
    def lose(own: Record) -> Record:
        lost = replace(own, answer=None, error="EngineError: lost", skipped=skipped)
        return replace(lost, **verdict_fields(grade_trace(task_of(lost), trace_of_record(lost))))

    assert runs[0].records[0].correct
    [line] = moved(forged(tmp_path / "c.zip", [changed(runs[0], 0, lose), *runs[1:]]))
    assert "weak, problem p/0, sample 0: the recorded replies lead the agent to its end" in line


def test_problems_of_which_the_manifest_has_no_hash_are_said_to_be_unconfirmed(
    tmp_path: Path, runs: Sequence[FrozenRun]
) -> None:
    manifest = copy.deepcopy(runs[0].about)
    del manifest["about"]["data_by_id"]
    run = replace(runs[0], manifest=json.dumps(manifest).encode())
    confirmed = checked(forged(tmp_path / "c.zip", [run]))
    assert "cannot confirm" not in confirmed.statement[0]  # the order is that of the ids
    manifest["identity"]["data"] = "0123456789abcdef"
    run = replace(runs[0], manifest=json.dumps(manifest).encode())
    other = checked(forged(tmp_path / "d.zip", [run]))
    assert "cannot confirm" in other.statement[0]


def test_an_edited_draft_of_an_agent_with_rounds_is_caught(
    tmp_path: Path, runs: Sequence[FrozenRun]
) -> None:
    def drop_draft(record: Record) -> Record:
        return replace(record, events=tuple(e for e in record.events if e not in record.notes[:1]))

    path = forged(tmp_path / "c.zip", [*runs[:2], changed(runs[2], 0, drop_draft)])
    assert any("p/0" in line for line in moved(path))


# somebody changes the file around the members


def test_a_truncated_file_is_caught(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = written(tmp_path / "c.zip", members)
    path.write_bytes(path.read_bytes()[:-100])
    assert moved(path)


@pytest.mark.parametrize("place", [10, 300, -30])
def test_one_changed_byte_is_caught(tmp_path: Path, members: dict[str, bytes], place: int) -> None:
    path = written(tmp_path / "c.zip", members)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert moved(path)


@pytest.mark.parametrize(
    "name", ["../evil.py", "/etc/passwd", "runs/1/../../x", "notes.txt", "runs/1/model.pkl"]
)
def test_a_member_that_a_claim_does_not_have_is_refused(
    tmp_path: Path, members: dict[str, bytes], name: str
) -> None:
    path = written(tmp_path / "c.zip", members | {name: b"x"})
    assert "no member" in moved(path)[0]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c.zip"]


def test_a_comment_and_compression_are_caught(tmp_path: Path, members: dict[str, bytes]) -> None:
    for comment, method in ((b"hello", zipfile.ZIP_STORED), (b"", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / "c.zip", "w", method) as zipped:
            zipped.comment = comment
            for name, data in members.items():
                zipped.writestr(name, data)
        assert moved(tmp_path / "c.zip")


def test_two_members_of_one_name_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = written(tmp_path / "c.zip", members)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("claim.json", b"{}")
    assert "two members" in moved(path)[0]


def test_another_grader_is_named(
    tmp_path: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "c.zip", members)
    monkeypatch.setattr("slm_math.claims.check.grader_version", lambda: "99")
    [line] = moved(path)
    assert "this slm-math has 99" in line


def test_an_agent_of_ones_own_is_said_to_be_taken_as_recorded(
    tmp_path: Path, runs: Sequence[FrozenRun]
) -> None:
    manifest = copy.deepcopy(runs[0].about)
    manifest["identity"]["agent"]["class"] = "os.system"
    run = replace(runs[0], manifest=json.dumps(manifest).encode())
    found = checked(forged(tmp_path / "c.zip", [run]))
    assert found.counts["workflows"] == 0
    assert any("taken as recorded, since os.system is no agent" in s for s in found.statement)


def test_records_are_frozen_as_this_program_writes_them(
    runs: Sequence[FrozenRun], members: dict[str, bytes]
) -> None:
    lines = gzip.decompress(members[RECORDS]).splitlines(keepends=True)
    assert lines == [json_line(record) for record in runs[0].records]
    assert [json.loads(line)["id"] for line in lines] == [f"p/{i}" for i in range(12)]
