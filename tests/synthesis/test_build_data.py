"""`slm-math build-data`: the same bytes again, what is refused, and `--verify`."""

import json
from pathlib import Path

import pytest
from synthesis.attempts import attempt, build, evaluation, rows_of, turn

from slm_math.cli import run
from slm_math.records.record import Record, RecordedImage

MIXED = [attempt(n, str(3 * n + wrong), sample=wrong) for n in range(2, 14) for wrong in (0, 1)]
KINDS = ("drafts", "trajectories", "preferences")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_and_seed_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    build(kind, path, tmp_path / "one" / "out")
    build(kind, path, tmp_path / "two" / "out")
    assert contents(tmp_path / "one" / "out") == contents(tmp_path / "two" / "out")


def test_another_seed_gives_another_order(tmp_path: Path) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    one = build("drafts", path, tmp_path / "one")["train"]
    two = build("drafts", path, tmp_path / "two", "--seed", "1")["train"]
    assert one != two
    assert sorted(row["draft"] for row in one) == sorted(row["draft"] for row in two)


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_verifies(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    rows = build(kind, path, tmp_path / "out")["train"]
    run(["build-data", "--verify", str(tmp_path / "out")])
    assert f"{len(rows)} rows built again, no difference" in capsys.readouterr().out


def forge(file: Path, line: int, **fields: object) -> None:
    """Changes fields of a row."""
    rows = [json.loads(text) for text in file.read_text().splitlines()]
    rows[line].update(fields)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_verify_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    build("drafts", path, tmp_path / "out", "--perturb", "0.2")
    forge(tmp_path / "out" / "train.jsonl", 2, correct=False, answer="7")
    with pytest.raises(SystemExit) as end:
        run(["build-data", "--verify", str(tmp_path / "out")])
    assert end.value.code == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "line 3: problem p/" in out
    assert "correct is False, and is True when it is built again" in out
    assert "2 differences" in out


def test_verify_sees_rows_that_are_gone_and_records_that_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evaluation(tmp_path / "e", MIXED)
    build("drafts", path, tmp_path / "out")
    file, records = tmp_path / "out" / "train.jsonl", Path(path) / "records.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(SystemExit):
        run(["build-data", "--verify", str(tmp_path / "out")])
    assert "is missing" in capsys.readouterr().out
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[1:]))
    with pytest.raises(SystemExit):
        run(["build-data", "--verify", str(tmp_path / "out")])
    assert "its records are others than those of the build" in capsys.readouterr().out


def test_verify_grades_every_answer_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records say that a wrong answer is right, and so does the build."""
    lied = attempt(20, "61", correct=True, reason="equal")
    path = evaluation(tmp_path / "e", [*MIXED, lied])
    rows = build("drafts", path, tmp_path / "out", "--balance", "false")["train"]
    assert [row["correct"] for row in rows if row["id"] == "p/20"] == [True]
    with pytest.raises(SystemExit):
        run(["build-data", "--verify", str(tmp_path / "out")])
    assert "correct is True, and is False when it is built again" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_build_replaces_itself_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = evaluation(tmp_path / "e", MIXED), tmp_path / "out"
    rows = build("drafts", path, out)
    (out / "train.jsonl").unlink()
    assert build("drafts", path, out) == rows
    with pytest.raises(SystemExit):
        build("preferences", path, out)
    assert "holds something else than this build: choose another --out" in capsys.readouterr().err
    assert rows_of(out) == rows
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_manifest_and_a_card_stand_beside_the_rows(tmp_path: Path) -> None:
    path, out = evaluation(tmp_path / "e", MIXED), tmp_path / "out"
    build("drafts", path, out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["identity"]["options"]["seed"] == 0
    assert manifest["rows"] == {"train": {"right": 12, "wrong": 12}}
    assert manifest["evaluations"][0]["source"] == "bags"
    assert {"card.md", "card.json", "shares.png"} <= {file.name for file in out.iterdir()}


IMAGE = attempt(4, "12", turn("#### 12", "[image: a.png]\nHow many?"))
BLIND = attempt(4, "12", images=(RecordedImage("a.png", "ab", blank=True),))
UNDECIDED = attempt(4, "12", reason="timeout")
VERDICT = attempt(4, "CORRECT", answer_type="verdict", gold="CORRECT")
BROKEN = attempt(4, None, error="it broke")


@pytest.mark.parametrize(
    ("kind", "records", "message"),
    [
        ("drafts", [], "is empty: it has no records, so there are no attempts"),
        ("drafts", [IMAGE], "problem p/4 shows images, which records do not keep"),
        ("drafts", [BLIND], "there are no attempts to use (1 attempts of the blind control)"),
        ("drafts", [VERDICT], "holds verdicts on drafts"),
        ("drafts", [attempt(4, "13")], "all 1 attempts are wrong"),
        ("drafts", [attempt(4, "12")], "all 1 attempts are right"),
        ("drafts", [UNDECIDED], "no attempts to use (1 answers that the grader could not decide)"),
        ("preferences", [BROKEN], "(1 attempts that broke or did not fit into the context)"),
    ],
)
def test_what_nothing_can_be_built_of_is_refused(
    kind: str,
    records: list[Record],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        build(kind, evaluation(tmp_path / "e", records), tmp_path / "out")
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_places_without_an_evaluation_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build("drafts", str(tmp_path), tmp_path / "out")
    assert "cannot be built from: it has neither records.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build("drafts", str(tmp_path / "nowhere"), tmp_path / "out")
    assert "nowhere does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(["build-data", "--verify", str(tmp_path)])
    assert "was not made by build-data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--perturb", "0.6"), "perturb is a share from 0 to 0.5 of balanced drafts, got 0.6"),
        (("--pass_rate", "0.9", "0.1"), "pass_rate is two shares such as 0.1 0.9"),
        (("--role", "solver"), "role is an option of trajectories"),
        (("--per_problem", "0"), "limit must be a positive number"),
    ],
)
def test_options_out_of_range_are_refused(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build("drafts", evaluation(tmp_path / "e", MIXED), tmp_path / "out", *options)
    assert message in capsys.readouterr().err


def test_answers_of_an_older_grader_are_graded_again(tmp_path: Path) -> None:
    """The records say the opposite of what the grader says."""
    records = [attempt(4, "12", correct=False), attempt(5, "16", correct=True)]
    path = evaluation(tmp_path / "e", records, grader="1")
    rows = build("drafts", path, tmp_path / "out")["train"]
    assert {row["id"]: row["correct"] for row in rows} == {"p/4": True, "p/5": False}
