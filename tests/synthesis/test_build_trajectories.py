"""Trajectories: their kinds, what is trained on, which are chosen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthesis.attempts import attempt, build, code, draft, evaluation, ran, turn

from slm_math.records.record import NoteEvent, Record
from slm_math.synthesis.trajectories import KINDS, kind_of

Q = "A bag has 4 apples. How many apples have 3 bags?"
C = code("print(4 * 3)")
BAD = code("print(x)")
RIGHT, WRONG = draft("12", True), draft("13", False)


def verdict(text: str) -> NoteEvent:
    return NoteEvent(kind="verdict", text=text, role="verifier")


def judge(reply: str) -> Any:
    return turn(reply, "Is it right?", role="verifier")


def again(reply: str, first: str = "#### 13", asked: str = "Check it.") -> Any:
    return turn(reply, Q, first, asked)


SINGLE = attempt(4, "12", turn("#### 12", Q))
CODE = attempt(
    4, "12", turn(C, Q), ran("print(4 * 3)", "12"), RIGHT, again("#### 12", C, "Output: 12"), RIGHT
)
REPAIRED = attempt(
    4,
    "12",
    turn(BAD, Q),
    ran("print(x)", "no x", ok=False),
    again(C, BAD, "It failed: no x"),
    ran("print(4 * 3)", "12"),
    RIGHT,
)
VERIFIED = attempt(
    4, "12", turn("#### 12", Q), RIGHT, judge("VERDICT: CORRECT"), verdict("CORRECT")
)
ROUNDS = attempt(
    4,
    "12",
    turn("#### 13", Q),
    WRONG,
    judge("VERDICT: INCORRECT"),
    verdict("INCORRECT"),
    again("#### 12"),
    RIGHT,
)
SELF = attempt(4, "12", turn("#### 13", Q), WRONG, again("#### 12"), RIGHT)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (SINGLE, "single"),
        (CODE, "code"),
        (REPAIRED, "repaired"),
        (VERIFIED, "verified"),
        (ROUNDS, "rounds"),
        (SELF, "rounds"),
    ],
)
def test_the_events_of_an_attempt_decide_its_kind(record: Record, kind: str) -> None:
    assert kind_of(record) == kind


def rows(tmp_path: Path, records: list[Record], *options: str) -> list[dict[str, Any]]:
    path = evaluation(tmp_path / "e", records)
    return build("trajectories", path, tmp_path / "out", *options)["train"]


def marks(row: dict[str, Any]) -> list[tuple[str, bool]]:
    """The assistant's messages, and whether they are trained on."""
    return [
        (message["content"], message.get("train", True))
        for message in row["messages"]
        if message["role"] == "assistant"
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (SINGLE, [("#### 12", True)]),
        (CODE, [(C, True), ("#### 12", True)]),
        (REPAIRED, [(BAD, False), (C, True)]),
        (ROUNDS, [("#### 13", False), ("#### 12", True)]),
    ],
)
def test_wrong_replies_are_context(
    record: Record, expected: list[tuple[str, bool]], tmp_path: Path
) -> None:
    [row] = rows(tmp_path, [record])
    assert marks(row) == expected


def test_the_output_of_a_program_inside_a_turn_is_context(tmp_path: Path) -> None:
    opened = f"{C}\n```output\n12\n```\n"
    events = (turn(C, Q), ran("print(4 * 3)", "12"), turn("#### 12", Q, opened))
    [row] = rows(tmp_path, [attempt(4, "12", *events)])
    message = row["messages"][1]
    spans = [
        (message["content"][span["begin_offset"] : span["end_offset"] + 1], span["train"])
        for span in message["train_detail"]
    ]
    assert spans == [(C, True), ("\n```output\n12\n```\n", False), ("#### 12", True)]


def test_a_role_has_conversations_of_its_own(tmp_path: Path) -> None:
    mistaken = attempt(
        5, "15", turn("#### 15"), draft("15", True), judge("VERDICT: INCORRECT"),
        verdict("INCORRECT"),
    )  # fmt: skip
    [row] = rows(tmp_path, [VERIFIED, mistaken], "--role", "verifier")
    assert marks(row) == [("VERDICT: CORRECT", True)]
    assert row["role"] == "verifier"


def test_a_conversation_that_ends_in_a_wrong_reply_is_left_out(tmp_path: Path) -> None:
    """The answer is that of the first round."""
    lost = attempt(
        4, "12", turn("#### 12", Q), RIGHT, again("What?", "#### 12"), draft(None, False)
    )
    [row] = rows(tmp_path, [lost, attempt(5, "15")])
    assert row["id"] == "p/5"


def test_cut_off_replies_are_not_imitated(tmp_path: Path) -> None:
    cut = attempt(4, "12", turn("#### 12 and", Q, finish="length"))
    [row] = rows(tmp_path, [cut, attempt(5, "15")])
    assert row["id"] == "p/5"


LONG = attempt(4, "12", turn(r"It is of course \boxed{12}", Q), method="box", sample=1)
TWO = [attempt(4, "12", turn("#### 12", Q), method="hashes"), LONG]


@pytest.mark.parametrize(("keep", "samples"), [("best", {1}), ("shortest", {0}), ("all", {0, 1})])
def test_one_of_a_problem_is_chosen(keep: str, samples: set[int], tmp_path: Path) -> None:
    made = rows(tmp_path, TWO, "--keep", keep)
    assert {row["receipt"]["sample"] for row in made} == samples


def test_kinds_are_balanced(tmp_path: Path) -> None:
    many = [attempt(n, str(3 * n), turn(f"{n}: #### {3 * n}", f"{n}?")) for n in range(10, 16)]
    made = rows(tmp_path, [*many, CODE, replace(REPAIRED, sample=1)], "--balance", "--keep", "all")
    assert sorted(row["kind"] for row in made) == ["code", "repaired", "single"]
    assert {row["kind"] for row in made} <= set(KINDS)


def test_an_equal_conversation_counts_for_the_kind_that_has_fewer(tmp_path: Path) -> None:
    """The solver's part of an attempt that a verifier accepted is that of one that stood alone."""
    alone, verified = [], []
    for n in range(10, 14):
        reply, answer = turn(f"#### {3 * n}", f"{n}?"), str(3 * n)
        alone.append(attempt(n, answer, reply))
        accepted = (draft(answer, True), judge("VERDICT: CORRECT"), verdict("CORRECT"))
        verified.append(attempt(n, answer, reply, *accepted, sample=1))
    made = rows(tmp_path, [*alone, *verified], "--balance")
    assert sorted(row["kind"] for row in made) == ["single"] * 2 + ["verified"] * 2
    assert len({row["problem"] for row in made}) == 4


def test_problems_are_chosen_by_their_pass_rate(tmp_path: Path) -> None:
    half = [attempt(4, "12"), attempt(4, "13", sample=1)]
    easy = [attempt(5, "15", sample=n) for n in range(2)]
    made = rows(tmp_path, [*half, *easy], "--pass_rate", "0.1", "0.9")
    assert [row["id"] for row in made] == ["p/4"]
    assert made[0]["receipt"]["sample"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--role", "critic"),
            "role critic spoke in none of the right attempts; the roles are sol",
        ),
        (("--pass_rate", "0.2", "0.3"), "none of the 1 problems has a pass rate from 0.2 to 0.3"),
        (("--perturb", "0.3"), "perturb is an option of drafts, not of trajectories"),
    ],
)
def test_options_that_leave_nothing_are_refused(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rows(tmp_path, [SINGLE], *options)
    assert message in capsys.readouterr().err


def test_wrong_attempts_alone_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rows(tmp_path, [attempt(4, "13")])
    assert "there are no right attempts, all 1 are wrong" in capsys.readouterr().err
