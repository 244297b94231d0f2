"""What a folder that a user names stands for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report.runs import record, write

from slm_math.records.eval_folders import last_evaluation, named_runs


def trained(root: Path, started: str, *stages: str) -> Path:
    """A training run with evaluations of one agent."""
    for stage in stages:
        write(root / "eval" / stage / "one", [record(0, True)])
    manifest = {"started": started, "policy": None, "run": root.name}
    (root / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return root


def below(folder: Path) -> list[str]:
    return [Path(run).relative_to(folder).as_posix() for run in named_runs(str(folder))]


def test_a_parent_is_the_runs_in_it_in_the_order_of_their_start(tmp_path: Path) -> None:
    trained(tmp_path / "quickstart" / "sft", "2026-01-01", "epoch-0")
    trained(tmp_path / "quickstart" / "grpo", "2026-01-02", "epoch-0", "epoch-1")
    write(tmp_path / "eval" / "one", [record(0, True)])
    write(tmp_path / "eval" / "two", [record(0, True)])
    (tmp_path / "quickstart" / "grpo" / "checkpoints").mkdir()
    assert below(tmp_path / "quickstart") == ["sft", "grpo"]
    assert below(tmp_path) == ["quickstart/sft", "eval", "quickstart/grpo"]


def test_output_folders_below_eval_are_no_stages_of_a_training_run(tmp_path: Path) -> None:
    write(tmp_path / "eval" / "a" / "one", [record(0, True)])
    write(tmp_path / "eval" / "b" / "one", [record(0, True)])
    assert below(tmp_path) == ["eval"]


def test_what_is_a_run_itself_stays(tmp_path: Path) -> None:
    root = trained(tmp_path / "t", "2026-01-01", "epoch-9", "epoch-10", "test")
    for folder in (root, root / "eval" / "epoch-9", root / "eval" / "epoch-9" / "one"):
        assert named_runs(str(folder)) == [str(folder)]
    assert last_evaluation(str(root)) == str(root / "eval" / "epoch-10")
    assert last_evaluation(str(root / "eval" / "epoch-9")) == str(root / "eval" / "epoch-9")


def test_what_was_set_aside_is_no_run(tmp_path: Path) -> None:
    trained(tmp_path / "runs" / "t", "2026-01-01", "epoch-0")
    trained(tmp_path / "runs" / "replaced-1", "2025-01-01", "epoch-0")
    assert below(tmp_path / "runs") == ["t"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_runs_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"{name} (is neither a folder|holds no evaluation)"):
        named_runs(str(tmp_path / name))
