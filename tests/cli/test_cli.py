"""The command line: quick help, options from elsewhere, a run end to end."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli.configs import CONFIGS, FULL, shown

import slm_math
from slm_math.cli import run

FIT = ["fit", *FULL]


def test_help_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys; from slm_math.cli import run; run(['--help'])\n"
        "slow = {'torch', 'lightning', 'transformers', 'sympy', 'numpy', 'jsonargparse'}\n"
        "assert not slow & sys.modules.keys()"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    for command in ("fit", "test", "eval", "grade", "results", "download"):
        assert f"  {command} " in out


def test_version_of_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slm_math", "--version"], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{slm_math.__version__}\n"


def test_environment_sets_options_and_files_beat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLM_MATH_FIT__TRAINER__MAX_STEPS", "7")
    monkeypatch.setenv("SLM_MATH_FIT__TRAINER__MAX_EPOCHS", "9")
    trainer = shown(capsys, "fit", *FULL)["trainer"]
    assert trainer["max_steps"] == 7
    assert trainer["max_epochs"] == 1
    monkeypatch.setenv("SLM_MATH_EVAL_SAMPLES", "3")
    evaluation = [f"--config={CONFIGS / 'eval/gsm8k.yaml'}", "--agents.one=SingleShot"]
    assert shown(capsys, "eval", *evaluation)["samples"] == 3


def test_callbacks_can_be_appended(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("trainer: {callbacks+: [{class_path: RolloutTable, init_args: {rows: 2}}]}")
    names = [
        item["class_path"]
        for item in shown(capsys, "fit", *FULL, f"--config={more}")["trainer"]["callbacks"]
    ]
    ours = ("AgentEval", "ExportHF", "RolloutTable")
    assert names == [f"slm_math.callbacks.{name}" for name in ours]


def test_fit_is_resumed_tested_and_leaves_its_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    fit = [*FIT, f"--trainer.default_root_dir={root}", "--trainer.accelerator=cpu"]
    run(fit)
    assert (root / "checkpoints" / "last.ckpt").is_file()
    run([*fit, "--trainer.max_epochs=2", "--ckpt_path=last"])
    assert sorted(path.name for path in (root / "eval").iterdir()) == ["epoch-0", "epoch-1"]
    first, second = sorted((root / "logs").iterdir())
    assert yaml.safe_load((first / "config.yaml").read_text())["trainer"]["max_epochs"] == 1
    assert yaml.safe_load((second / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert "train/loss" in (first / "metrics.csv").read_text()
    run(
        [
            "test",
            *fit[1:],
            f"--model.policy.path={root / 'export'}",
            "--model.policy.scratch=null",
        ]
    )
    assert (root / "eval" / "test" / "single_shot" / "records.jsonl").is_file()
