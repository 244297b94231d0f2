"""Whatever loggers a run has, its metrics are in the root's log, and all get its options."""

import json
import os
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger

from slm_math.callbacks.rollout_table import COLUMNS
from slm_math.cli import run
from slm_math.extras import install
from slm_math.report.load import load
from slm_math.run_loggers import loggers_of, prepare_loggers

SMALL = [
    *("fit", "--config=configs/grpo/solver.yaml", "--config=configs/fast.yaml"),
    "--trainer.callbacks+=RolloutTable",
    *("--torch_threads=1", "--trainer.enable_progress_bar=false", "--model.group_size=2"),
    *("--model.inference.sampling.max_new_tokens=6", "--model.optim.lr=0.004"),
]


class Remote(Logger):
    """A logger that writes down what it is told, as a service would.

    Args:
        notes: the file.
        api_key: what opens the service.
        more: what else the service takes.
    """

    name, version = "remote", 0

    def __init__(self, notes: str, api_key: str = "", **more: Any) -> None:
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
    rewards = next(each for each in material.training if each.metric == "train/reward")
    assert [step for step, _ in rewards.points] == [0, 1]
    assert material.notes == ()


def test_every_logger_gets_the_options_of_the_run_without_secrets(logged: Path) -> None:
    [hparams] = logged.glob("logs/*/hparams.yaml")
    for file in (hparams, logged / "notes"):
        told = yaml.safe_load(file.read_text())
        assert told["model"]["init_args"]["optim"]["lr"] == 0.004
        assert told["data"]["init_args"]["batch_size"] == 8
        assert told["model"]["init_args"]["inference"]["sampling"]["max_new_tokens"] == 6
        assert told["trainer"]["logger"][0]["init_args"]["api_key"] == "***"
    manifests = [*logged.glob("eval/*/*/manifest.json"), logged / "manifest.json"]
    assert not any("k-5150" in path.read_text() for path in manifests)


def files_with(text: str, folder: Path) -> list[str]:
    """The files below a folder that hold a text."""
    written = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in written if text.encode() in path.read_bytes()]


def test_secret_of_the_command_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    own = [
        *("--trainer.logger=test_run_logs.Remote", f"--trainer.logger.notes={notes}"),
        "--config=trainer: {logger: {init_args: {api_key: k-5150}}}",
        *("--trainer.logger.dict_kwargs.hfToken", "k-5150"),
    ]
    command = [*SMALL, f"--trainer.default_root_dir={tmp_path / 'root'}", *own]
    monkeypatch.setattr("sys.argv", ["slm-math", *command])
    run(command)
    assert files_with("k-5150", tmp_path) == []
    manifest = json.loads((tmp_path / "root/manifest.json").read_text())
    assert manifest["command"][:-3] == command[:-3]
    assert json.dumps(manifest["command"][-3:]).count("***") == 2
    [config] = tmp_path.glob("root/logs/*/config.yaml")
    assert config.read_text().count("'***'") == 2


def test_written_config_asks_for_the_secret_that_it_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {"trainer": {"logger": {"class_path": "Remote", "init_args": {"api_key": "***"}}}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(written))
    with pytest.raises(SystemExit):
        run(["fit", f"--config={file}"])
    said = capsys.readouterr().err
    assert "trainer.logger.init_args.api_key: *** stands where a run does not write" in said
    assert said.count("\n") == 1


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
    said = f"{root}: no curves of training, since no metrics were logged"
    assert said in " ".join(capsys.readouterr().out.split())
    assert "no metrics were logged" in (tmp_path / "r.html").read_text()


LOGGERS = {
    "TensorBoardLogger": ("tensorboard", "loggers", "save_dir"),
    "WandbLogger": ("wandb", "loggers", "save_dir"),
    "TrackioLogger": ("trackio", "trackio", "project"),
}


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
    tables = events.Tensors("rollouts/text_summary")
    assert [event.step for event in tables] == [0, 2]  # the first batch of each epoch
    rewards = tables[0].tensor_proto.string_val[0].decode().splitlines()[2:]
    assert [row.split(" | ")[3] for row in rewards] == ["solver"] * 4


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
    [file] = tmp_path.glob("wandb/offline-run-*/files/media/table/rollouts_*.table.json")
    table = json.loads(file.read_text())
    assert table["columns"] == list(COLUMNS)
    assert [row[:1] + row[3:4] for row in table["data"]] == [[0, "solver"]] * 4
    assert files_with("k-5150", tmp_path) == []


@pytest.mark.slow
def test_trackio_has_a_run_without_network(tmp_path: Path) -> None:
    """In a process of its own, since trackio reads its folder from the environment once."""
    pytest.importorskip("trackio", reason="needs the extra `trackio`")
    log = ["--trainer.logger=TrackioLogger", f"--trainer.default_root_dir={tmp_path / 'root'}"]
    places = {"TRACKIO_DIR": str(tmp_path / "t"), "HF_HUB_OFFLINE": "1", "HF_TOKEN": "hf_k-5150"}
    command = [sys.executable, "-m", "slm_math", *SMALL, *log]
    for more in ([], ["--ckpt_path=last", "--trainer.max_epochs=2"]):
        subprocess.run([*command, *more], check=True, env=os.environ | places)
    with sqlite3.connect(tmp_path / "t/slm-math.db") as base:
        found = base.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
        [options] = base.execute("SELECT config FROM configs").fetchone()
        [runs] = base.execute("SELECT count(DISTINCT run_name) FROM metrics").fetchone()
    logged = [(step, json.loads(text)) for step, text in found]
    assert [step for step, row in logged if "train/reward" in row] == [0, 1, 2, 3]
    assert [step for step, row in logged if "eval/single_shot/accuracy" in row] == [1, 3]
    tables = [(step, row["rollouts"]["_value"]) for step, row in logged if "rollouts" in row]
    assert [(step, len(rows), set(rows[0])) for step, rows in tables] == [
        (0, 4, set(COLUMNS)),
        (2, 4, set(COLUMNS)),
    ]
    assert json.loads(options)["model"]["init_args"]["optim"]["lr"] == 0.004
    assert runs == 1
    assert files_with("k-5150", tmp_path) == []


def test_names_of_roots_in_one_folder_of_logs_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pytest.importorskip("tensorboard", reason="needs the extra `loggers`")
    roots = ("runs/a", "../runs/a", "/runs/a", "runs-a", "./runs/a", str(tmp_path / "here/runs/a"))
    names = []
    for root in roots:
        one = Namespace(class_path="TensorBoardLogger", init_args=Namespace(version=None))
        prepare_loggers(one, Path(root))
        names.append(one.init_args.version)
    assert len(set(names[:4])) == 4
    assert names[4:] == 2 * names[:1]
    assert all("runs" in name and "/" not in name for name in names)


WANDB: dict[str, tuple[dict[str, str], dict[str, Any], bool]] = {
    "nothing": ({}, {}, False),
    "key": ({"WANDB_API_KEY": 40 * "0"}, {}, True),
    "mode": ({"WANDB_MODE": "offline"}, {}, True),
    "option": ({}, {"offline": True}, True),
    "other host in netrc": ({"NETRC": "machine elsewhere login user password x"}, {}, False),
    "login": (
        {"NETRC": "machine board.lab login user password x", "WANDB_BASE_URL": "http://board.lab"},
        {},
        True,
    ),
}


@pytest.mark.parametrize("kind", WANDB)
def test_wandb_that_would_ask_for_a_key_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="needs the extra `loggers`")
    variables, options, works = WANDB[kind]
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"NETRC": ""} | variables).items():
        if name == "NETRC":
            (tmp_path / "netrc").write_text(value)
            value = str(tmp_path / "netrc")
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    wandb.teardown()  # it reads the environment once
    one = Namespace(class_path="WandbLogger", init_args=Namespace(**options))
    if works:
        prepare_loggers(one, tmp_path)
    else:
        with pytest.raises(ValueError, match=r"set WANDB_API_KEY or .* WANDB_MODE=offline"):
            prepare_loggers(one, tmp_path)
    wandb.teardown()


@pytest.mark.parametrize("name", LOGGERS)
def test_logger_without_its_package_is_told_what_to_install(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("slm_math.run_loggers.distribution", missing)
    package, needed_extra, option = LOGGERS[name]
    (tmp_path / package).mkdir()  # wandb makes a folder of its name, which is no package
    monkeypatch.syspath_prepend(tmp_path)
    extra = [f"--trainer.logger={name}", f"--trainer.logger.{option}={tmp_path}"]
    with pytest.raises(SystemExit):
        run([*SMALL, f"--trainer.default_root_dir={tmp_path / 'root'}", *extra])
    said = capsys.readouterr().err
    needed = f"trainer.logger {name} needs {package}: {install(needed_extra)}"
    assert said == f"slm-math: error: {needed}\n"
    assert not (tmp_path / "root").exists()
