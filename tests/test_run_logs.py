"""Whatever loggers a run has, its metrics are in the root's log, and all get its options."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger

from slm_math.cli import run
from slm_math.report.load import load
from slm_math.run_loggers import loggers_of

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


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a run with a remote logger, whose notes are in it."""
    root = tmp_path_factory.mktemp("logged")
    run([*SMALL, f"--trainer.default_root_dir={root}", *remote(root / "notes")])
    return root


def test_report_has_the_rewards_of_a_run_with_another_logger(logged: Path) -> None:
    material = load([str(logged)])
    assert [step for step, _ in material.rewards[0].points] == [0, 1]
    assert material.notes == ()


def test_every_logger_gets_the_options_of_the_run_without_secrets(logged: Path) -> None:
    [hparams] = logged.glob("logs/*/hparams.yaml")
    for file in (hparams, logged / "notes"):
        told = yaml.safe_load(file.read_text())
        assert told["model"]["init_args"]["optim"]["lr"] == 0.004
        assert told["data"]["init_args"]["batch_size"] == 8
        assert told["model"]["init_args"]["inference"]["sampling"]["max_new_tokens"] == 6
        assert told["trainer"]["logger"][0]["init_args"]["api_key"] == "(not shown)"
    manifests = [*logged.glob("eval/*/*/manifest.json"), logged / "manifest.json"]
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


LOGGERS = {"TensorBoardLogger": "tensorboard", "WandbLogger": "wandb"}


def board(tmp_path: Path, *more: str) -> None:
    log = ("--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={tmp_path / 'board'}")
    root = tmp_path / "root"
    run([*SMALL, f"--trainer.default_root_dir={root}", *log, *more])


def test_tensorboard_has_the_options_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `loggers`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board(tmp_path)
    board(tmp_path, "--ckpt_path=last", "--trainer.max_epochs=2")
    [file] = (tmp_path / "board").rglob("hparams.yaml")
    assert yaml.safe_load(file.read_text())["model"]["init_args"]["optim"]["lr"] == 0.004
    events = EventAccumulator(str(file.parent))
    events.Reload()
    assert [event.step for event in events.Scalars("train/reward")] == [0, 1, 2, 3]
    assert [event.step for event in events.Scalars("eval/single_shot/accuracy")] == [1, 3]
    assert any(b"_hparams_" in each.read_bytes() for each in file.parent.glob("events*"))


@pytest.mark.slow
def test_wandb_writes_offline(tmp_path: Path) -> None:
    """In a process of its own, at whose end its file is whole."""
    pytest.importorskip("wandb", reason="needs the extra `loggers`")
    log = [
        *("--trainer.logger=WandbLogger", f"--trainer.logger.save_dir={tmp_path}"),
        f"--trainer.default_root_dir={tmp_path / 'root'}",
    ]
    subprocess.run(
        [sys.executable, "-m", "slm_math", *SMALL, *log],
        check=True,
        env=os.environ | {"WANDB_MODE": "offline", "WANDB_API_KEY": "k-5150" + 34 * "0"},
    )
    [file] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for name in (b"train/reward", b"eval/single_shot/accuracy", b"init_args", b"group_size"):
        assert name in content
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"k-5150" in path.read_bytes()]


@pytest.mark.parametrize("name", LOGGERS)
def test_logger_without_its_package_is_told_what_to_install(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("slm_math.run_loggers.find_spec", lambda package: None)
    extra = [f"--trainer.logger={name}", f"--trainer.logger.save_dir={tmp_path}"]
    with pytest.raises(SystemExit):
        run([*SMALL, f"--trainer.default_root_dir={tmp_path / 'root'}", *extra])
    said = capsys.readouterr().err
    needed = f"trainer.logger {name} needs {LOGGERS[name]}: pip install 'slm-math[loggers]'"
    assert said == f"slm-math: error: {needed}\n"
    assert not (tmp_path / "root").exists()
