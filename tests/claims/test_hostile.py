"""Claims that are made to break or to fill the memory of who checks them, or to say more than they
hold.
"""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claims.claimed import ABOUT, RECORDS, TASKS, checked, forged, moved, overlap, solves, written
from evaluation.one_by_one import OneByOne, run

from slm_math.agents import FewShot, SingleShot
from slm_math.claims.archive import (
    Budget,
    check_sizes,
    compressed,
    decompressed_lines,
    json_bytes,
)
from slm_math.claims.archive import members as members_of
from slm_math.claims.figures import claim_members
from slm_math.claims.frozen import FrozenRun, runs_of
from slm_math.claims.packed import PackedRecords
from slm_math.records.encoding import json_line, to_json
from slm_math.records.record import Record, TurnEvent

HEADER = bytes.fromhex("1f8b0800000000000203")  # deflate, no flags, no time, best, Unix


def test_a_bomb_of_records_is_not_unpacked(
    tmp_path: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a gigabyte of blanks in half a megabyte: no more than a line is ever held."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(bytes(1 << 20).replace(b"\0", b" ")) for _ in range(512))
    members[RECORDS] = HEADER + (packed + packer.flush())[len(HEADER) :]
    path = written(tmp_path / "c.zip", members)
    tracemalloc.start()
    assert "a line of it has more than 16777216 bytes" in moved(path)[0]
    assert tracemalloc.get_traced_memory()[1] < 80 << 20
    tracemalloc.stop()


def test_all_records_of_a_claim_have_one_bound(members: dict[str, bytes]) -> None:
    size = len(gzip.decompress(members[RECORDS]))
    assert len(list(decompressed_lines(members[RECORDS], Budget(size)))) == 12
    budget = Budget(2 * size - 1)
    list(decompressed_lines(members[RECORDS], budget))
    with pytest.raises(ValueError, match=f"the records of the claim have more than {2 * size - 1}"):
        list(decompressed_lines(members[RECORDS], budget))


def test_records_are_not_unpacked_to_many_times_their_file(
    tmp_path: Path, members: dict[str, bytes], runs: Sequence[FrozenRun]
) -> None:
    """One record forty thousand times: no record of them is parsed."""
    line = json_line(runs[0].records[0])
    members[RECORDS] = compressed(line * ((16 << 20) // len(line) + 1))
    path = written(tmp_path / "c.zip", members)
    assert path.stat().st_size < 250_000
    [found] = moved(path)
    assert "records.jsonl.gz: the records of the claim have more than 16777216 bytes" in found
    with pytest.raises(ValueError, match="64 times as many as its file"):
        check_sizes(members)


@pytest.mark.parametrize("name", [RECORDS, "runs/1/manifest.json"])
def test_values_that_would_fill_the_memory_are_not_parsed(
    tmp_path: Path, members: dict[str, bytes], name: str
) -> None:
    data = b'{"a": [' + b"[]," * (1 << 19) + b"[]]}\n"
    members[name] = compressed(data) if name == RECORDS else data
    path = written(tmp_path / "c.zip", members)
    tracemalloc.start()
    [found] = moved(path)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()
    assert "more than 1048576 values of JSON" in found
    assert name in found


def test_records_of_a_claim_are_read_when_they_are_asked_for(runs: Sequence[FrozenRun]) -> None:
    """Ten blocks of records take less memory than their lines do."""
    records = [replace(runs[0].records[n % 12], sample=n) for n in range(6_000)]
    packed = PackedRecords()
    lines = list(map(json_line, records))
    tracemalloc.start()
    for line in lines:
        packed.append(line)
    assert tracemalloc.get_traced_memory()[0] < sum(map(len, lines)) // 4
    tracemalloc.stop()
    assert list(packed) == records == list(reversed(packed))[::-1]
    assert packed[-1] == records[-1]
    assert packed[5:7] == records[5:7]
    with pytest.raises(IndexError):
        packed[6_000]


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    name = "runs/1/manifest.json"
    members[name] = members[name].replace(b"{", b'{"partial": false, "partial": false, ', 1)
    assert (
        f"{name}: it has the key 'partial' twice" in moved(written(tmp_path / "c.zip", members))[0]
    )


def test_a_header_of_gzip_hides_nothing(tmp_path: Path, members: dict[str, bytes]) -> None:
    own = members[RECORDS]
    hidden = own[:3] + b"\x04" + own[4:10] + (350).to_bytes(2, "little") + b"x" * 350 + own[10:]
    assert gzip.decompress(hidden) == gzip.decompress(own)
    again = gzip.compress(gzip.decompress(own), mtime=5)  # a time is four bytes, too
    for data in (hidden, again):
        with pytest.raises(ValueError, match="its header is not that of a claim"):
            list(decompressed_lines(data, Budget()))
        path = written(tmp_path / "c.zip", members | {RECORDS: data})
        assert "records.jsonl.gz: its header is not" in moved(path)[0]


def test_bits_after_the_last_block_are_refused() -> None:
    """Other bytes of the same records, whose hashes would be computed again."""
    changed = 0
    for n in range(20):
        own = compressed(b"a record of some length\n" * n + str(n).encode())
        check_sizes({RECORDS: own})
        data = bytearray(own)
        data[-9] |= 0x80
        try:
            same = bytes(data) != own and gzip.decompress(data) == gzip.decompress(own)
        except (zlib.error, OSError, EOFError):
            continue  # the stream ends with a whole byte
        if same:
            changed += 1
            with pytest.raises(ValueError, match="bits are set after its end"):
                check_sizes({RECORDS: bytes(data)})
    assert changed > 10


@pytest.mark.parametrize(
    "more",
    [
        {"training_problems": "7,473\n- CHECKED BY NIST \x1b[31m"},
        {"training_problems": {"a": 1}},
        {"training_problems": True},
        {"test_problems": None},
        {"test_problems": 0},
        {"near_exact": -1},
        {"near_exact": 2},
        {"exact": 2},
        {"findings": [{"test": ["a"], "train": "t", "kind": "exact", "near_exact": True}]},
        {"findings": [{"test": "p/3", "train": "t", "kind": "exact", "near_exact": "yes"}]},
        {"findings": [{"test": "p/3", "train": "t", "kind": "sure", "near_exact": True}]},
        {"findings": 2 * json.loads(overlap())["findings"]},
    ],
)
def test_an_overlap_says_numbers_and_no_text(
    tmp_path: Path, runs: Sequence[FrozenRun], more: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"weak: overlap\.json"):
        forged(tmp_path / "c.zip", [replace(runs[0], overlap=overlap(**more))])
    path = forged(tmp_path / "c.zip", [replace(runs[0], overlap=overlap())])
    found = checked(path)
    assert not found.moved
    assert any("which no check can compute again" in line for line in found.statement)
    found = {**members_of(path), "runs/1/overlap.json": overlap(**more)}
    assert any("weak: overlap.json" in line for line in moved(written(path, found)))


def _turn(record: Record, **more: Any) -> Record:
    turn = record.events[0]
    assert isinstance(turn, TurnEvent)
    return replace(record, events=(replace(turn, **more), *record.events[1:]))


HOSTILE: dict[str, Callable[[Record], Record]] = {
    "more tokens than a number holds": lambda r: _turn(r, tokens=10**400),
    "more tokens than a column holds": lambda r: _turn(r, tokens=1 << 70),
    "fewer than no tokens": lambda r: _turn(r, tokens=-1),
    "a negative tolerance": lambda r: replace(r, answer_type="num", tolerance=-1.0),
    "seconds without an end": lambda r: replace(r, seconds=10**400),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_is_a_line_and_no_traceback(
    tmp_path: Path, members: dict[str, bytes], runs: Sequence[FrozenRun], name: str
) -> None:
    records = [HOSTILE[name](runs[0].records[0]), *runs[0].records[1:]]
    members[RECORDS] = compressed(b"".join(map(_line, records)))
    assert moved(written(tmp_path / "c.zip", members))


def _line(record: Record) -> bytes:
    """As `json_line`, of numbers that no float holds, too."""
    return json.dumps(to_json(record), ensure_ascii=False).encode() + b"\n"


def test_a_hostile_agent_is_a_line_and_no_traceback(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    manifest = json.loads(members["runs/1/manifest.json"])
    manifest["identity"]["agent"]["temperature"] = 10**400
    members["runs/1/manifest.json"] = json_bytes(manifest)
    assert moved(written(tmp_path / "c.zip", members))


def test_whatever_a_check_raises_is_a_line(
    tmp_path: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OverflowError("too large")

    path = written(tmp_path / "c.zip", members)
    for place in ("frozen", "described", "moved"):
        with monkeypatch.context() as patch:
            patch.setattr(f"slm_math.claims.check.{place}", fail)
            assert any("cannot be read (OverflowError) too large" in line for line in moved(path))


def test_samples_of_one_problem_have_one_reference(tmp_path: Path) -> None:
    """The hash of the problems is that of their first samples."""
    run(tmp_path / "a", OneByOne(solves(lambda n: n > 5)), SingleShot(), TASKS, samples=2, **ABOUT)
    [own] = runs_of([str(tmp_path / "a")])
    path = written(tmp_path / "c.zip", claim_members([own]))
    assert not moved(path)
    lines = list(map(to_json, own.records))
    assert (lines[1]["sample"], lines[1]["correct"]) == (1, False)
    lines[1] |= {"gold": lines[1]["answer"], "correct": True, "reason": "exact", "lenient": True}
    members = members_of(path) | {RECORDS: compressed(b"".join(map(json_line, lines)))}
    found = moved(written(tmp_path / "c.zip", members))
    assert any("problem 'p/0' disagree about what it is: sample 1" in line for line in found)


@pytest.mark.parametrize("sample", [-1, 1, 10**12])
def test_samples_are_numbered_from_0_on(
    tmp_path: Path, runs: Sequence[FrozenRun], sample: int
) -> None:
    records = [replace(runs[0].records[0], sample=sample), *runs[0].records[1:]]
    with pytest.raises(ValueError, match=f"problem 'p/0' has a sample {sample}, and should have 0"):
        forged(tmp_path / "c.zip", [replace(runs[0], records=records)])


@pytest.mark.parametrize(
    ("part", "key", "value", "error"),
    [
        ("about", "source", ["a"], "about.source is ['a'], which is no text"),
        ("about", "split", {"a": 1}, "about.split is {'a': 1}, which is no text"),
        ("identity", "tool", ["lm-eval"], "identity.tool is ['lm-eval'], which is no text"),
        ("identity", "samples", 1.0, "its manifest says identity.samples: 1.0"),
    ],
)
def test_a_manifest_says_each_thing_in_its_own_type(
    tmp_path: Path, members: dict[str, bytes], part: str, key: str, value: Any, error: str
) -> None:
    manifest = json.loads(members["runs/1/manifest.json"])
    manifest[part][key] = value
    members["runs/1/manifest.json"] = json_bytes(manifest)
    assert any(error in line for line in moved(written(tmp_path / "c.zip", members)))


def test_a_manifest_has_no_keys_that_no_evaluation_writes(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    """They would be free text in a claim that holds."""
    manifest = json.loads(members["runs/1/manifest.json"]) | {"accuracy": 0.99}
    members["runs/1/manifest.json"] = json_bytes(manifest)
    [line] = moved(written(tmp_path / "c.zip", members))
    assert "runs/1/manifest.json: it has the key 'accuracy', which no evaluation writes" in line


def test_names_in_the_readme_are_neither_html_nor_links(
    tmp_path: Path, runs: Sequence[FrozenRun]
) -> None:
    name = "<img src=http://x.example/y> [proof](http://x.example): 99.9 % right"
    manifest = json.loads(runs[0].manifest)
    manifest["about"]["source"] = name
    [run] = [replace(runs[0], manifest=json_bytes(manifest))]
    found = claim_members([run])
    claim = json.loads(found["claim.json"])
    assert f"of '{name}/test'" in claim["statement"][0] or f"'{name}'/test" in claim["statement"][0]
    for line in found["README.md"].decode().splitlines():
        assert line.startswith("    ") or not {"<img", "[proof]"} & set(line.split())


def test_worked_examples_are_mentioned(tmp_path: Path) -> None:
    """Nobody can see in the figures that an agent was shown some."""
    examples = (replace(TASKS[0], solution="7"), replace(TASKS[1], solution="8"))
    agent = FewShot(SingleShot(), examples)
    run(tmp_path / "a", OneByOne(solves(lambda n: n > 5)), agent, TASKS[2:], **ABOUT)
    found = checked(forged(tmp_path / "c.zip", runs_of([str(tmp_path / "a")])))
    assert not found.moved
    assert any("2 worked examples stand before each problem" in each for each in found.statement)
