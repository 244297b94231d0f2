"""From lines to verdicts and statistics: what cannot be read, what is counted, what runs in other
processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
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
from slm_math.grading.tallied import accuracy, headline
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


def tally_of(*rows: GradedLine) -> Tally:
    tally = Tally()
    for row in rows:
        tally.add(row)
    tally.finish()
    return tally


def test_accuracy_of_several_samples_is_over_problems() -> None:
    rows = [
        row_of(line, *replies)
        for line, replies in enumerate(
            [["#### 5", "#### 5"], ["#### 5", "#### 6"], ["#### 6", "#### 6"]], 1
        )
    ]
    # shares 1, 1/2, 0: about the variance of 3 samples; with Student's t (4.30) that of 0.6
    assert accuracy(tally_of(*rows)).startswith("50.0 % [3.")
    rows += [row_of(line, "#### 5", "#### 6") for line in range(4, 64)]
    # squares 0.5 and a fifth of 0.25 twice: half width 2.00 * sqrt(0.6 / 62.4 / 63) = 0.0247
    tally = tally_of(*rows)
    assert accuracy(tally) == "50.0 % [47.5, 52.5]"
    assert tally.problems == 63
    assert accuracy(tally, lenient=True) == accuracy(tally)
    tally = tally_of(*rows, row_of(64, "We count 5 of them and", "We count 5 of them and"))
    # strict share 0, lenient share 1: means 31.5 / 64 and 32.5 / 64
    assert accuracy(tally).startswith("49.2 % [46.")
    assert accuracy(tally, lenient=True).startswith("50.8 % [47.")


def test_accuracy_of_one_sample_a_row_is_wilsons() -> None:
    # Newcombe 1998, table I: 81/263 -> .2553, .3662
    tally = tally_of(*(row_of(n, "#### 5" if n < 81 else "#### 6") for n in range(263)))
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


def graded(*rows: dict[str, Any]) -> list[GradedLine]:
    return [
        GradedLine(line, tuple(map(grade_case, cases(row, line, Fields()))))
        for line, row in enumerate(rows, 1)
    ]


def test_accuracy_is_the_mean_over_problems_of_unequal_numbers_of_samples() -> None:
    """One problem with 100 right samples and 20 with a wrong one: 1 / 21, and not 100 / 120."""
    right = [{"id": "x", "completion": f"#### 1 ({n})\n#### 1", "answer": "1"} for n in range(100)]
    wrong = [{"id": f"y{n}", "completion": "#### 2", "answer": "1"} for n in range(20)]
    tally = tally_of(*graded(*right, *wrong))
    share, low, high = tally.accuracy()
    assert share == pytest.approx(1 / 21)
    assert low < share < high
    assert headline(tally).startswith("100 of 120 samples correct; mean over 21 problems: 4.8 % [")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"problem": "3 + 3?", "answer": "6"}, "line 2: the id 'a' is that of another problem in"),
        ({"problem": "3 + 3?"}, "line 2: the id 'a' is that of another problem in line 1, where"),
        (
            {"answer": "6"},
            "line 2: the id 'a' has another reference answer ('6') than in line 1 ('4')",
        ),
        ({"answer": "6", "id": None}, ""),
    ],
)
def test_samples_of_two_problems_are_none_of_either(more: dict[str, Any], error: str) -> None:
    row = {"id": "a", "problem": "2 + 2?", "completion": "#### 4", "answer": "4"}
    if error:
        with pytest.raises(ValueError, match=re.escape(error)):
            tally_of(*graded(row, row | more))
    else:
        assert tally_of(*graded(row, row | more)).problems == 2


@pytest.mark.parametrize("more", [{"answer": "4.0"}, {"problem": "2  + 2? "}])
def test_another_spelling_is_the_same_problem(more: dict[str, Any]) -> None:
    row = {"id": "a", "problem": "2 + 2?", "completion": "#### 4", "answer": "4"}
    tally = tally_of(*graded(row, row | more | {"completion": "#### 5"}))
    assert (tally.problems, tally.total.n) == (1, 2)


def test_rows_without_an_id_are_known_by_their_texts() -> None:
    row = {"problem": "2 + 2?", "completion": "#### 4", "answer": "4"}
    tally = tally_of(*graded(row, row | {"problem": " 2 + 2 ?", "completion": "#### 5"}))
    assert (tally.problems, tally.total.n, tally.accuracy()[0]) == (1, 2, 0.5)
    with pytest.raises(ValueError, match="line 2: the problem has another reference answer"):
        tally_of(*graded(row, row | {"answer": "6"}))
