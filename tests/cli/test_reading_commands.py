"""What reads evaluations, from the command line: grade --verify, compare, results,
report, overlap.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from cli.evaluating import ONE, SHORT, Said, ask, gsm8k, ours
from tiny import model_folder

from slm_math.cli import run


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(ask, capsys)


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished evaluations."""
    folders = [tmp_path_factory.mktemp("done") / name for name in ("first", "second")]
    for seed, out in enumerate(folders):
        model = model_folder(tmp_path_factory.mktemp(f"model{seed}"), seed)
        run(["eval", gsm8k(data), ONE, *SHORT, f"--policy={model}", f"--out={out}"])
    return folders


def test_records_are_verified(done: list[Path], tmp_path: Path, said: Said) -> None:
    file = done[0] / "one" / "records.jsonl"
    status, shown, _ = said("grade", "--verify", file)
    assert (status, "all 12 verdicts agree" in shown) == (0, True)
    copy = tmp_path / "records.jsonl"
    changed = [json.loads(line) for line in file.read_text().splitlines()]
    changed[3]["correct"] = not changed[3]["correct"]
    copy.write_text("".join(json.dumps(row) + "\n" for row in changed))
    (tmp_path / "manifest.json").write_bytes((done[0] / "one" / "manifest.json").read_bytes())
    status, shown, _ = said("grade", copy, "--verify")
    assert status == 1
    assert "line 4" in shown
    assert "11 verdicts agree" in shown


def test_commands_take_what_stands_without_an_option(
    done: list[Path], data: Path, tmp_path: Path, said: Said
) -> None:
    status, shown, error = said("compare", *done, "-o", tmp_path / "compared.json")
    assert (status, ours(error)) == (0, "")
    [pair] = json.loads((tmp_path / "compared.json").read_text())["comparisons"]
    names = [f"{folder.parent.name}/{folder.name}/one" for folder in done]
    assert [pair["a"], pair["b"], pair["problems"]] == [*names, 12]
    status, shown, _ = said("results", *done)
    assert status == 0
    assert shown.count("n = 12") == 2
    status, _, error = said("results", done[0], "--by", "level")
    assert (status, "has a tag level" in error) == (2, True)
    status, _, error = said("report", *done, "-o", tmp_path / "report.html", "--transcripts=2")
    assert (status, ours(error)) == (0, "")
    assert (tmp_path / "report.html").read_text().startswith("<!")
    status, shown, _ = said(
        "overlap", data / "train.jsonl", data / "test.jsonl", "-o", tmp_path / "overlap.json"
    )
    assert status == 0
    assert json.loads((tmp_path / "overlap.json").read_text())["test_problems"] == 12


WRONG: dict[str, tuple[list[str], str]] = {
    "compare nothing": (["compare"], "FOLDERS"),
    "compare one": (["compare", "FIRST"], "two"),
    "compare twice the same": (["compare", "FIRST", "FIRST/"], "twice"),
    "results of nothing": (["results"], "FOLDERS"),
    "results of a file": (["results", "nowhere"], "nowhere"),
    "report of nothing": (["report"], "FOLDERS"),
    "overlap of one": (["overlap", "FIRST"], "test"),
    "overlap of three": (["overlap", "a", "b", "c"], "takes 2 (train, test)"),
    "grade two": (["grade", "a", "b"], "takes 1 (file)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_count_is_a_one_line_error(name: str, done: list[Path], said: Said) -> None:
    arguments, text = WRONG[name]
    status, _, error = said(*(argument.replace("FIRST", str(done[0])) for argument in arguments))
    assert status == 2
    assert text in error
    assert "Traceback" not in error
    assert error.count("\n") <= 2
