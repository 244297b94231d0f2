"""The command `claim`: what it writes, what it refuses, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from claims.claimed import TASKS, runs_in, solves
from cli.evaluating import ask
from evaluation.one_by_one import OneByOne, run

from slm_math.agents import SingleShot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eval")
    runs_in(path)
    return path


def test_a_claim_is_written_with_its_statement_and_holds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.zip"
    status, out, _ = ask(capsys, "claim", folder, "-o", path)
    assert status == 0
    # 4 and 9 of 12; statsmodels' proportion_confint(4, 12, method="wilson") and of 9
    assert "weak: 33.3 % right [13.8, 60.9], 4 of 12" in out
    assert "strong: 75.0 % right [46.8, 91.1], 9 of 12" in out
    assert "strong against weak: +41.7" in out
    assert "no control: weak, strong, checked" in out
    assert "no unseen twins: weak, strong, checked" in out
    status, out, _ = ask(capsys, "claim", "--check", path)
    assert (status, "everything holds" in out) == (0, True)
    assert str(folder) not in zipfile.ZipFile(path).read("claim.json").decode()


def test_a_claim_that_moved_exits_with_1_and_says_what(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.zip"
    ask(capsys, "claim", folder, "-o", path)
    path.write_bytes(path.read_bytes().replace(b'"correct": 9', b'"correct": 8'))
    status, out, _ = ask(capsys, "claim", "--check", path)
    assert status == 1
    assert "moved: " in out


def test_the_check_needs_no_torch(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.zip"
    ask(capsys, "claim", folder, "-o", path)
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'lightning'): sys.modules[name] = None\n"
        f"from slm_math.cli import run; run(['claim', '--check', {str(path)!r}])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_records_that_were_edited_are_not_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [weak, *_] = runs_in(tmp_path / "runs")
    file = Path(weak) / "records.jsonl"
    file.write_text(file.read_text().replace('"correct": false', '"correct": true', 1))
    status, _, error = ask(capsys, "claim", weak, "-o", tmp_path / "c.zip")
    assert status == 2
    assert "do not pass the check of a claim" in error
    assert "graded again False" in error
    assert not (tmp_path / "c.zip").exists()


def test_overlap_beside_the_runs_is_part_of_the_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_in(tmp_path / "runs")
    found = {
        "training_problems": 100,
        "test_problems": 12,
        "near_exact": 1,
        "findings": [
            {"test": "p/3", "train": "t/1", "kind": "exact", "near_exact": True},
            {"test": "p/4", "train": "t/2", "kind": "13-gram", "near_exact": False},
        ],
    }
    (tmp_path / "runs/overlap.json").write_text(json.dumps(found))
    _, out, _ = ask(capsys, "claim", tmp_path / "runs", "-o", tmp_path / "c.zip")
    assert "weak, overlap: 1 of 12 problems are nearly those of 100 training problems" in out
    assert ask(capsys, "claim", "--check", tmp_path / "c.zip")[0] == 0


def test_one_run_is_a_claim_of_its_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "a", OneByOne(solves(lambda n: n > 5)), SingleShot(), TASKS, samples=2)
    status, out, _ = ask(capsys, "claim", tmp_path / "a", "-o", tmp_path / "c.zip")
    assert status == 0
    assert "12 of 24, 2 samples each" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a"], "name the file to write"),
        (["-o", "c.zip"], "nothing to claim"),
        (["a", "--check", "c.zip"], "takes a claim file and nothing else"),
        (["--check", "no.zip"], "no.zip: the file does not exist, so nothing was checked"),
        (["nowhere", "-o", "c.zip"], "nowhere is neither a folder"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, _, error = ask(capsys, "claim", *arguments)
    assert (status, message in error) == (2, True)
