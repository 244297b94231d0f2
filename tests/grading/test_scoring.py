"""From lines to verdicts and statistics: what cannot be read, what is counted, what runs in other
processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from slm_math.data import json_lines as jsonl
from slm_math.data.json_lines import RowError, dump, lines, parse
from slm_math.evaluation.plain import plain
from slm_math.grading import scoring
from slm_math.grading.completions import cases
from slm_math.grading.fields import Fields
from slm_math.grading.scoring import GradedLine, LineBatch, grade_case, grade_lines
from slm_math.grading.tallied import accuracy
from slm_math.grading.tally import Tally


def test_lines_are_numbered_whatever_ends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE", 20)
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n \n' + b"x" * 75 + b'\n{"a": 2}')
    found = list(lines(file))
    assert [number for number, _, _ in found] == [1, 4, 5]
    assert [parse(found[0][1]), parse(found[2][1])] == [{"a": 1}, {"a": 2}]
    with pytest.raises(RowError, match="longer"):
        parse(found[1][1])
    assert found[-1][2] == file.stat().st_size


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": ', "not JSON"),
        (b"[1]", "object"),
        (b'{"a":' * 100_000, "nested"),
        (b'{"a": ' + b"1" * 5000 + b"}", "number"),
    ],
)
def test_a_line_that_cannot_be_read_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        parse(line)


def test_half_a_surrogate_pair_survives_being_written() -> None:
    row = {"answer": "é\ud800"}
    assert json.loads(dump(row)) == row
    assert dump({"answer": "é"}) == '{"answer": "é"}\n'.encode()


def test_shown_text_has_no_control_characters() -> None:
    assert plain("a\x1b[31m\nb") == r"a\x1b[31m\nb"
    assert plain("x" * 100, 10) == "x" * 10 + " ..."


def row_of(line: int, *replies: str, gold: str = "5") -> GradedLine:
    return GradedLine(
        line,
        tuple(
            grade_case(case)
            for case in cases({"completion": list(replies), "answer": gold}, line, Fields())
        ),
    )


def test_a_verdict_is_a_line_of_json() -> None:
    row = {"id": 'a"\n\ud800é', "completion": "\\boxed{é\ud800}", "answer": "5"}
    for id in (row["id"], 7, None):
        [case] = cases(row | {"id": id}, 3, Fields())
        graded = grade_case(case)
        wanted = {
            "line": 3,
            "sample": 0,
            "id": id,
            "correct": False,
            "answer": "é\ud800",
            "method": "box",
            "reason": graded.reason,
            "seconds": graded.seconds,
            "grader": graded.grader,
            "completion_hash": graded.completion_hash,
            "gold_hash": graded.gold_hash,
            "lenient": False,
        }
        if id is None:
            del wanted["id"]
        read = json.loads(graded.to_line().encode())
        assert read == wanted
        assert list(read) == list(wanted)


def test_lenient_accepts_the_last_number_only_where_no_answer_is_stated() -> None:
    row = row_of(
        1, "We count up to 5 of them, no more", r"\boxed{6} and then 5", r"\boxed{5} and then 6"
    )
    assert [(item.correct, item.lenient) for item in row.samples] == [
        (False, True),
        (False, False),
        (True, True),
    ]


def test_accuracy_of_several_samples_is_over_problems() -> None:
    tally = Tally()
    for line, replies in enumerate(
        [["#### 5", "#### 5"], ["#### 5", "#### 6"], ["#### 6", "#### 6"]], 1
    ):
        tally.add(row_of(line, *replies))
    # shares 1, 1/2, 0: about the variance of 3 samples; with Student's t (4.30) that of 0.6
    assert accuracy(tally).startswith("50.0 % [3.")
    for line in range(4, 64):
        tally.add(row_of(line, "#### 5", "#### 6"))
    # squares 0.5 and a fifth of 0.25 twice: half width 2.00 * sqrt(0.6 / 62.4 / 63) = 0.0247
    assert accuracy(tally) == "50.0 % [47.5, 52.5]"
    assert tally.problems == 63
    assert accuracy(tally, lenient=True) == accuracy(tally)
    tally.add(row_of(64, "We count 5 of them and", "We count 5 of them and"))
    # strict share 0, lenient share 1: means 31.5 / 64 and 32.5 / 64
    assert accuracy(tally).startswith("49.2 % [46.")
    assert accuracy(tally, lenient=True).startswith("50.8 % [47.")


def test_accuracy_of_one_sample_a_row_is_wilsons() -> None:
    tally = Tally()
    for line in range(263):  # Newcombe 1998, table I: 81/263 -> .2553, .3662
        tally.add(row_of(line, "#### 5" if line < 81 else "#### 6"))
    assert accuracy(tally) == "30.8 % [25.5, 36.6]"


def write(file: Path, n: int) -> None:
    rows = ({"completion": f"#### {i}", "answer": i + i % 2} for i in range(n))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_other_processes_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 300)
    for workers in (1, 2):
        rows = list(grade_lines(tmp_path / "a.jsonl", Fields(), workers, Console(quiet=True)))
        assert [row.line for row in rows] == list(range(1, 301))
        assert [row.samples[0].correct for row in rows] == [True, False] * 150


def test_a_process_that_dies_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 5000)
    before = set(multiprocessing.active_children())
    rows = grade_lines(tmp_path / "a.jsonl", Fields(), 2, Console(quiet=True))
    next(rows)
    for child in set(multiprocessing.active_children()) - before:
        os.kill(child.pid or 0, signal.SIGKILL)
    with pytest.raises(ValueError, match=r"a\.jsonl: a grading process died at or after line \d+"):
        list(rows)


def test_few_batches_are_under_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Instant:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def submit(self, *_: Any) -> Future[list[GradedLine]]:
            future: Future[list[GradedLine]] = Future()
            future.set_result([])
            return future

        def shutdown(self) -> None: ...

    taken = 0

    def batches() -> Any:
        nonlocal taken
        for taken in range(1, 1001):
            yield LineBatch([(taken, b"{}")], taken)

    monkeypatch.setattr(scoring, "ProcessPoolExecutor", Instant)
    ahead = [taken - end for _, end in scoring._pooled(batches(), Fields(), "a", 3)]
    assert len(ahead) == 1000
    assert max(ahead) < scoring.IN_FLIGHT * 3


def test_null_completion_is_an_empty_reply() -> None:
    assert [
        case.completion for case in cases({"completion": None, "answer": "1"}, 1, Fields())
    ] == [""]
    assert [
        case.completion for case in cases({"output": ["R", None], "answer": "1"}, 1, Fields())
    ] == ["R", ""]


def test_samples_of_one_id_are_one_problem() -> None:
    tally = Tally()
    for line, (id, completion) in enumerate(
        [("a", "#### 1"), ("a", "#### 2"), ("b", "#### 1"), ("b", "so\n#### 1")], 1
    ):
        [case] = cases({"id": id, "completion": completion, "answer": "1"}, line, Fields())
        tally.add(GradedLine(line, (grade_case(case),)))
    tally.finish()
    assert (tally.problems, tally.total.n, tally.total.correct) == (2, 4, 3)
    assert accuracy(tally) == "75.0 % [0.7, 99.9]"  # two problems say little


def test_rows_of_one_id_with_other_references_are_other_problems() -> None:
    tally = Tally()
    rows = [("a", "1"), ("a", "1"), ("a", "2"), ("b", "1")]
    for line, (id, gold) in enumerate(rows, 1):
        [case] = cases({"id": id, "completion": f"#### {line}", "answer": gold}, line, Fields())
        tally.add(GradedLine(line, (grade_case(case),)))
    assert (len(tally.groups), len(tally.ids), tally.ambiguous) == (3, 2, 1)
