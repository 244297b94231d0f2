"""Whatever loggers a run has, its metrics are in the root's log, and all get its options."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger

from slm_math.cli import run
from slm_math.report.load import load
from slm_math.training import loggers_of

SMALL = [
    *("fit", "--config=configs/grpo/solver.yaml", "--config=configs/fast.yaml"),
    *("--torch_threads=1", "--trainer.enable_progress_bar=false", "--model.group_size=2"),
    *("--model.inference.sampling.max_new_tokens=6", "--model.optim.lr=0.004"),
]


class Remote(Logger):
    """A logger that writes down what it is told, as a service would.

    Args:
        notes: the file.
        api_key: what opens the service.
    """

    name, version = "remote", 0

    def __init__(self, notes: str, api_key: str = "") -> None:
        super().__init__()
        self.notes = notes

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        Path(self.notes).write_text(json.dumps(params))

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Left to others."""


def remote(notes: Path) -> list[str]:
    own = {"notes": str(notes), "api_key": "k-5150"}
    spec = [{"class_path": "test_run_logs.Remote", "init_args": own}]
    return [f"--trainer.logger={json.dumps(spec)}"]


def test_report_has_the_rewards_of_a_run_with_another_logger(tmp_path: Path) -> None:
    run([*SMALL, f"--trainer.default_root_dir={tmp_path}", *remote(tmp_path / "notes")])
    material = load([str(tmp_path)])
    assert [step for step, _ in material.rewards[0].points] == [0, 1]
    assert material.notes == ()


def test_every_logger_gets_the_options_of_the_run_without_secrets(tmp_path: Path) -> None:
    run([*SMALL, f"--trainer.default_root_dir={tmp_path}", *remote(tmp_path / "notes")])
    [hparams] = tmp_path.glob("logs/*/hparams.yaml")
    for file in (hparams, tmp_path / "notes"):
        told = yaml.safe_load(file.read_text())
        assert told["model"]["init_args"]["optim"]["lr"] == 0.004
        assert told["data"]["init_args"]["batch_size"] == 8
        assert told["model"]["init_args"]["inference"]["sampling"]["max_new_tokens"] == 6
        assert told["trainer"]["logger"][0]["init_args"]["api_key"] == "(not shown)"
    manifests = [*tmp_path.glob("eval/*/*/manifest.json"), tmp_path / "manifest.json"]
    assert not any("k-5150" in path.read_text() for path in manifests)


def test_loggers_of_ones_own_keep_the_roots_log_beside_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    other, here = CSVLogger(tmp_path / "other"), CSVLogger(root, name="logs", version="mine")
    added = loggers_of([other, Remote("")], root)[-1]
    assert Path(added.root_dir) == root / "logs"
    assert loggers_of(here, root) == [here]
    assert [type(one) for one in loggers_of(None, root)] == [CSVLogger]
    assert loggers_of(False, root) is False


def test_run_without_a_logger_says_so_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "silent"
    run([*SMALL, f"--trainer.default_root_dir={root}", "--trainer.logger=false"])
    assert not (root / "logs").exists()
    capsys.readouterr()
    run(["report", str(root), "--out", str(tmp_path / "r.html")])
    said = f"{root}: no curve of rewards, since no metrics were logged"
    assert said in " ".join(capsys.readouterr().out.split())
    assert "no metrics were logged" in (tmp_path / "r.html").read_text()


def test_tensorboard_shows_the_options(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    root, board = f"--trainer.default_root_dir={tmp_path}", tmp_path / "board"
    run([*SMALL, root, "--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={board}"])
    [file] = board.rglob("hparams.yaml")
    assert yaml.safe_load(file.read_text())["model"]["init_args"]["optim"]["lr"] == 0.004
    [events] = board.rglob("events*")
    assert b"_hparams_" in events.read_bytes()
