"""A root holds one training run: a second one is refused, one that goes on is not."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from tiny import chats, grpo, problems, sft, trainer

from slm_math.agents import SingleShot
from slm_math.callbacks import AgentEval, Checkpoints, ExportHF, RolloutLog
from slm_math.cli import run
from slm_math.engines.settings import Inference
from slm_math.records.run_folder import refuse_second_run
from slm_math.report.load import load
from slm_math.types import Sampling

FAST = ["--config=configs/fast.yaml", "--torch_threads=1", "--trainer.enable_progress_bar=false"]
GRPO = [
    *("fit", "--config=configs/grpo/solver.yaml", *FAST),
    *("--model.inference.sampling.max_new_tokens=6", "--model.group_size=2"),
]
SFT = ["fit", "--config=configs/sft/full.yaml", *FAST]


def writers(root: Path) -> list[L.Callback]:
    """The callbacks that write into a root."""
    agents = {"one": SingleShot("solve_plain")}
    brief = Inference(sampling=Sampling(0.0, max_new_tokens=4))
    evaluation = AgentEval(agents, limit=2, inference=brief)
    return [evaluation, RolloutLog(), Checkpoints(root / "checkpoints"), ExportHF(check=False)]


def fit(
    root: Path, module: Any, callbacks: list[L.Callback], ckpt: Path | None = None, epochs: int = 1
) -> None:
    saves = any(isinstance(each, Checkpoints) for each in callbacks)
    made = trainer(
        root,
        limit_train_batches=1,
        max_epochs=epochs,
        enable_checkpointing=saves,
        callbacks=callbacks,
    )
    made.fit(module, problems() if hasattr(module, "rewards") else chats(), ckpt_path=ckpt)


def manifest(root: Path) -> dict[str, Any]:
    return json.loads((root / "manifest.json").read_text())


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_second_fit_into_a_root_is_refused_before_anything_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    run([*GRPO, root])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("slm_math.policy.config.Policy.load", None)
    for second in ([*GRPO, root], [*SFT, root]):
        said = refusal(second, capsys)
        assert re.search(r"run holds a run of 20\S+Z, and a folder holds one", said)
        assert "--ckpt_path last goes on" in said
        assert "--trainer.default_root_dir OTHER" in said
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after


def test_run_that_goes_on_keeps_its_identity_and_its_whole_curve_of_rewards(tmp_path: Path) -> None:
    root = f"--trainer.default_root_dir={tmp_path}"
    run([*GRPO, root])
    first = manifest(tmp_path)
    run([*GRPO, root, "--ckpt_path=last", "--trainer.max_epochs=2"])
    second = manifest(tmp_path)
    assert (second["run"], second["started"]) == (first["run"], first["started"])
    assert len(second["resumed"]) == 1
    material = load([str(tmp_path)])
    assert [x for x, _ in material.curves[0].points] == [1, 2]
    [rewards] = [curve for curve in material.training if curve.metric == "train/reward"]
    assert [step for step, _ in rewards.points] == [0, 1, 2, 3]
    assert material.notes == ()


def test_run_that_failed_before_its_first_step_does_not_block_the_next(tmp_path: Path) -> None:
    class Fails(L.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fit(tmp_path, grpo(), [*writers(tmp_path), Fails()])
    fit(tmp_path, sft(), writers(tmp_path))
    assert (tmp_path / "export").is_dir()


def test_a_run_that_its_data_refuses_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text("foo,bar\n1 + 1,2\n")
    options = ["--data.source=Table", f"--data.source.path={tmp_path / 'x.csv'}"]
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    assert "there are bar, foo" in refusal([*SFT, *options, root], capsys)
    assert not (tmp_path / "run").exists()


def test_every_callback_that_writes_refuses_a_second_run(tmp_path: Path) -> None:
    fit(tmp_path, sft(), writers(tmp_path))
    for callback in writers(tmp_path):
        with pytest.raises(ValueError, match="and a folder holds one"):
            fit(tmp_path, grpo(), [callback])


def test_checkpoint_of_another_run_does_not_go_on_in_a_root(tmp_path: Path) -> None:
    for name in "ab":
        fit(tmp_path / name, sft(), writers(tmp_path / name))
    foreign = tmp_path / "b" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="a holds a run of"):
        fit(tmp_path / "a", sft(), writers(tmp_path / "a"), foreign, epochs=2)
    fit(tmp_path / "c", sft(), writers(tmp_path / "c"), foreign, epochs=2)
    assert len({manifest(tmp_path / name)["run"] for name in "abc"}) == 3


def test_trial_leaves_nothing_behind(tmp_path: Path) -> None:
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    run([*SFT, root, "--trainer.fast_dev_run=true"])
    assert not (tmp_path / "run").exists()


def test_evaluation_before_training_does_not_make_a_run(tmp_path: Path) -> None:
    root = f"--trainer.default_root_dir={tmp_path}"
    run(["validate", *SFT[1:], root])
    assert (tmp_path / "eval" / "validate").is_dir()
    refuse_second_run(tmp_path)


def mixed(root: Path, command: list[str]) -> None:
    """A root of two runs as earlier versions left it: three epochs of one, one of the next."""
    for epoch, hour in ((0, 15), (1, 11), (2, 12)):
        folder = root / "eval" / f"epoch-{epoch}" / "one"
        folder.mkdir(parents=True)
        (folder / "records.jsonl").touch()
        times = {"started": f"2026-05-04T{hour}:00:00.000+00:00", "finished": None}
        identity = {"problems": 0, "samples": 1}
        text = json.dumps({"identity": identity, "partial": False, **times})
        (folder / "manifest.json").write_text(text)
    about = {"started": "2026-05-04T14:00:00Z", "policy": None, "command": command}
    (root / "manifest.json").write_text(json.dumps(about))
    for number, rewards in enumerate(([0.1, 0.2, 0.3], [0.7, 0.8])):
        log = root / "logs" / f"version_{number}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        with log.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "train/reward"])
            rows.writerows(enumerate(rewards))


def test_report_leaves_out_what_an_earlier_run_left_in_a_root(tmp_path: Path) -> None:
    mixed(tmp_path, ["fit", "--config", "x.yaml"])
    material = load([str(tmp_path)])
    assert [run.folder.parent.name for run in material.runs] == ["epoch-0"]
    assert [curve.points for curve in material.training] == [((0, 0.7), (1, 0.8))]
    assert material.notes == (
        f"{tmp_path}: left out, of an earlier run in this folder: epoch-1, epoch-2",
    )


def test_report_keeps_the_evaluations_of_a_run_that_went_on(tmp_path: Path) -> None:
    mixed(tmp_path, ["fit", "--ckpt_path=last"])
    assert [run.folder.parent.name for run in load([str(tmp_path)]).runs] == ["epoch-2"]


def test_training_without_rewards_has_not_those_of_an_earlier_run(tmp_path: Path) -> None:
    mixed(tmp_path, ["fit"])
    log = tmp_path / "logs" / "version_2" / "metrics.csv"
    log.parent.mkdir()
    log.write_text("step,train/loss\n0,1.5\n1,1.25\n")
    assert [curve.metric for curve in load([str(tmp_path)]).training] == ["train/loss"]
