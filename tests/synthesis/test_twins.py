"""Twins of one's own problems: numbers that problem and program share, and what it prints."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from slm_math.data.files import read_rows
from slm_math.synthesis.swapped import exchanged, shared_numbers
from slm_math.synthesis.twins import twins
from slm_math.types import RunPython

pytestmark = pytest.mark.usefixtures("light_programs")


def shared(text: str, code: str) -> list[str]:
    return [each.number.written for each in shared_numbers(text, RunPython(code))]


@pytest.mark.parametrize(
    ("text", "code", "numbers"),
    [
        ("Ann has 7 pens and buys 13.", "print(7 + 13)", ["7", "13"]),
        ("Ann has 1,250 pens at $1.25.", "print(1250 * 1.25)", ["1,250", "1.25"]),
        ("She sold 48, then half of it.", "m = 48 / 2\nprint(48 + m)", ["48"]),
        ("Two boys have 2 pens each.", "print(2 * 2)", []),  # which 2 is whose?
        ("He reads 7 pages a day for a week.", "print(7 * 7)", []),
        ("He has 3 of 3 pens.", "print(3 + 4)", []),
        ("He eats 3/4 of 12 pies.", "print(12 * 3 / 4)", ["12"]),
        ("At 5:30 he has 12 pens.", "print(12 + 5 + 30)", ["12"]),
        ("In 1998 he had 12 pens.", "print(12 + 1998)", ["12"]),
        ("The 3rd box has 12 pens.", "print(12 * 3)", ["12"]),
        ("He has 1 pen and 15 more.", "print(1 + 15)", ["15"]),
        ("He has 12 pens.", "x12 = 5\nprint(x12)", []),
        ("He has 12 pens.", "print('12')", []),
        ("He has 12 pens.", "print(12", []),  # no Python
        ("Half of 100 % of 55.", "print(100 * 55)", ["55"]),
    ],
)
def test_numbers_that_say_one_thing_may_be_exchanged(
    text: str, code: str, numbers: list[str]
) -> None:
    assert shared(text, code) == numbers


def test_numbers_change_in_text_and_program_alike() -> None:
    text, code = "Ann has 1,250 pens and buys 7 at $1.25.", "n = 1250\nprint((n + 7) * 1.25 + n)"
    request = RunPython(code, ("first = 1250",))
    for seed in range(20):
        some = shared_numbers(text, request)
        asked, program, changes = exchanged(text, request, some, random.Random(seed))
        a, b, c = re.fullmatch(
            r"Ann has (\d,\d{3}) pens and buys (\d) at \$(\d\.\d\d)\.", asked
        ).groups()
        whole = a.replace(",", "")
        assert program == RunPython(
            f"n = {whole}\nprint((n + {b}) * {c} + n)",
            (f"first = {whole}",),
        )
        assert changes == {"1,250": a, "7": b, "1.25": c}
        assert len({a, "1,250"}) == len({b, "7"}) == len({c, "1.25"}) == 2


ROWS = [
    {"id": "a", "problem": "Ann has 48 pens and buys half as many. How many now?",
     "answer": "72", "program": "more = 48 / 2\nprint(48 + more)"},
    {"id": "b", "problem": "Ben shares 91 pens with 13 boys. How many has each?",
     "answer": "So it is 91/13.\n#### 7", "program": "```python\nprint(91 / 13)\n```"},
    {"id": "c", "problem": "Cem buys 7 pens for $2 each. What does he pay?",
     "answer": "15", "program": "print(7 * 2)"},
    {"id": "d", "problem": "Dan has many pens. How many?", "answer": "12", "program": "print(12)"},
    {"id": "e", "problem": "Eva has 7 pens.", "answer": "x + 1", "program": "print(7)"},
    {"id": "f", "problem": "Fay has 7 pens.", "answer": "7", "program": ""},
    {"id": "g", "problem": "Gus has 7 pens.", "answer": "7", "program": "print(7 - 7 + 7)"},
    {"id": "h", "problem": "Hal has 29 pens.", "answer": "29",
     "program": "x = 29\nprint(29 if x else 0)"},
]  # fmt: skip


def written(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_program_says_what_the_answer_of_a_twin_is(tmp_path: Path, capsys) -> None:
    out = tmp_path / "twins.jsonl"
    twins(written(tmp_path / "own.jsonl", ROWS), str(out))
    made = {row.fields["twin_of"]: row.fields for row in read_rows(out)}
    assert set(made) == {"a", "b", "h"}
    [n] = re.findall(r"\d+", made["a"]["problem"])
    assert int(n) != 48
    assert int(made["a"]["answer"]) == 3 * int(n) // 2
    pens, boys = map(int, re.findall(r"\d+", made["b"]["problem"]))
    assert pens % boys == 0
    assert int(made["b"]["answer"]) == pens // boys != 7
    assert made["a"]["parent"] == ROWS[0]["problem"]
    said = capsys.readouterr().out
    for line in (
        "3 problems have a twin",
        "no program: 1",
        "the program does not give the reference answer: 1",
        "no number that problem and program have in common: 2",
        "the answer is no number, or there are images: 1",
    ):
        assert line in said


@pytest.mark.slow
def test_twins_repeat_with_the_seed(tmp_path: Path) -> None:
    file = written(tmp_path / "own.jsonl", ROWS)
    texts = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        twins(file, str(tmp_path / name), seed=seed)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1] != texts[2]


def test_a_twin_that_is_trained_on_is_left_out(tmp_path: Path, capsys) -> None:
    file = written(tmp_path / "own.jsonl", [ROWS[0], ROWS[-1]])
    twins(file, str(tmp_path / "twins.jsonl"))
    first, second = read_rows(tmp_path / "twins.jsonl")
    train = written(tmp_path / "train.jsonl", [{"problem": first.fields["problem"], "answer": "1"}])
    twins(file, str(tmp_path / "left.jsonl"), against=[train])
    [left] = read_rows(tmp_path / "left.jsonl")
    assert left.fields == second.fields
    assert "their twin is among the problems of the file or of --against: 1" in (
        capsys.readouterr().out
    )


def test_programs_of_right_records_are_used(tmp_path: Path) -> None:
    def record(id: str, correct: bool, code: str) -> dict:
        run = {"kind": "run", "code": code, "ok": True, "output": "", "error_type": ""}
        return {"schema": 2, "id": id, "sample": 0, "problem": f"{id} has 48 pens, and 31 more.",
                "gold": "79", "correct": correct, "answer": "79", "events": [run]}  # fmt: skip

    rows = [record("a", True, "print(48 + 31)"), record("b", False, "print(48 + 31)")]
    twins(written(tmp_path / "records.jsonl", rows), str(tmp_path / "twins.jsonl"))
    [made] = read_rows(tmp_path / "twins.jsonl")
    assert made.fields["twin_of"] == "a"


def test_rows_that_are_left_out_are_counted(tmp_path: Path, capsys) -> None:
    """A repeated problem, a line that is no JSON, one without a problem, and a bad reference."""
    file = tmp_path / "own.jsonl"
    bad = [{"program": "print(1)"}, ROWS[0] | {"problem": "Ida has 3 pens.", "answer": None}]
    rows = [ROWS[0], ROWS[0], *bad, ROWS[1]]
    written(file, rows)
    file.write_text(file.read_text() + "{broken\n")
    twins(str(file), str(tmp_path / "twins.jsonl"))
    said = " ".join(capsys.readouterr().out.split())
    assert "2 problems have a twin" in said
    assert "the problem stands in an earlier row: 1" in said
    assert "the row cannot be read (first: own.jsonl, line 3" in said
    assert said.count("): 3") == 1


def test_no_twin_at_all_is_an_error(tmp_path: Path) -> None:
    file = written(tmp_path / "own.jsonl", ROWS[3:4])
    with pytest.raises(ValueError, match="no problem has a twin"):
        twins(file, str(tmp_path / "twins.jsonl"))
    assert not (tmp_path / "twins.jsonl").exists()
