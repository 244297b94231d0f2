"""What scripts/compare_verifier.py trains and prints; the command line is replaced."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from slm_math.records.encoding import json_line
from slm_math.records.record import Record

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_verifier.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script; `commands` holds what it ran, each of which writes what it should."""
    spec = importlib.util.spec_from_file_location("compare_verifier", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []

    def run(*arguments: object) -> None:
        module.commands.append(arguments)
        assert str(arguments[1]).startswith("--config=")  # what comes before a file, it overrides
        options = dict(str(each)[2:].split("=", 1) for each in arguments[1:])
        if arguments[0] == "fit":
            (Path(options["trainer.default_root_dir"]) / "export").mkdir(parents=True)
            return
        for agent in ("judge", "single_shot"):
            folder = Path(options["out"]) / agent
            folder.mkdir(parents=True)
            (folder / "records.jsonl").write_bytes(b"".join(map(json_line, verdicts(3))))
            (folder / "summary.json").touch()

    monkeypatch.setattr(module, "run", run)
    return module


def verdicts(right: int) -> list[Record]:
    """Verdicts on four drafts, of which the first ones are right."""
    golds = ("CORRECT", "INCORRECT") * 2
    return [
        Record(
            id=f"drafts/p/{n}/x",
            sample=0,
            problem=f"{n}?",
            gold=gold,
            answer_type="verdict",
            answer="CORRECT" if (gold == "CORRECT") == (n < right) else "INCORRECT",
            correct=n < right,
        )
        for n, gold in enumerate(golds)
    ]


def options_of(folder: Path) -> Namespace:
    return Namespace(model="base", steps=7, problems=5, n=4, out=folder)


def test_each_row_starts_where_it_says(script: Any, tmp_path: Path) -> None:
    options = options_of(tmp_path)
    for row in ("GRPO", "shuffled GRPO", "shuffled GRPO of SFT"):
        script.judge(row, 3, options)
    trained = {
        Path(each).parts[-1]: set(map(str, command))
        for command in script.commands
        if command[0] == "fit"
        for each in command
        if "default_root_dir" in str(each)
    }
    assert list(trained) == ["SFT", "GRPO", "shuffled-SFT", "shuffled-GRPO", "shuffled-GRPO-of-SFT"]
    shuffled = {row for row in trained if "--data.source.shuffle_labels=3" in trained[row]}
    assert shuffled == {"shuffled-SFT", "shuffled-GRPO", "shuffled-GRPO-of-SFT"}
    for row, start in (("GRPO", "SFT"), ("shuffled-GRPO", "shuffled-SFT")):
        assert f"--model.policy={{path: {tmp_path}/3/{start}/export}}" in trained[row]
        assert "--trainer.limit_train_batches=7" in trained[row]


def test_what_is_done_is_not_run_again(script: Any, tmp_path: Path) -> None:
    script.judge("GRPO", 0, options_of(tmp_path))
    ran = len(script.commands)
    script.judge("GRPO", 0, options_of(tmp_path))
    assert ran == len(script.commands) == 5  # drafts of two splits, two trainings, an evaluation


def test_table_has_intervals_and_paired_differences(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    script.show({"plain model": verdicts(2), "SFT": verdicts(3)})
    plain, sft = capsys.readouterr().out.splitlines()
    assert plain.startswith("plain model          50.0 [")
    assert "n = 4, right 50.0, wrong 50.0" in plain
    assert "75.0 [" in sft
    assert "n = 4, right 100.0, wrong 50.0; minus plain model: +25.0 [" in sft
