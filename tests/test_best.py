"""ModelCheckpoint and EarlyStopping on metrics of agents, as configs/best.yaml has them: the best
weights are kept, training stops, and both go on where they were.
"""

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from agent_eval import data
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from monitored import ACCURACY, ROOT, Indexed, Scripted, watching
from tiny import sft, trainer

from slm_math.callbacks import AgentEval, Checkpoints, ExportHF, StopReason
from slm_math.checkpoint_files import newest_checkpoint
from slm_math.cli import run

# right answers of 28 in each epoch: the best is the second, and three follow that are no better
RIGHT = (3, 16, 5, 16, 2, 26, 28, 28)


class Script(L.Callback):
    """Lets epoch n have RIGHT[n] right answers; `stop` ends the run at an epoch as a kill would."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        Scripted.right = RIGHT[trainer.current_epoch]
        if trainer.current_epoch == self.stop:
            raise RuntimeError("killed")


def fitted(
    root: Path,
    *more: L.Callback,
    resume: str | None = None,
    stop: int | None = None,
    looks: int = 1,
    patience: int | None = None,
    **options: Any,
) -> L.Trainer:
    """A run of eight epochs at most, with checkpoints and what configs/best.yaml adds."""
    best, early = watching(dirpath=str(root / "checkpoints"), every_n_epochs=looks)
    early.patience = patience or early.patience
    evaluation = AgentEval({"scripted": Scripted()}, limit=None, **options)
    every = [evaluation, best, early, Script(stop), Checkpoints(), StopReason(), *more]
    run = trainer(
        root, callbacks=every, max_epochs=8, limit_train_batches=1, enable_checkpointing=True
    )
    module, source = sft(), data(Indexed())
    if stop is None:
        run.fit(module, source, ckpt_path=resume)
    else:
        with pytest.raises(RuntimeError, match="killed"):
            run.fit(module, source, ckpt_path=resume)
    return run


def states(run: L.Trainer) -> dict[str, Any]:
    """What the two callbacks remember, without the root's name."""
    found = {}
    for callback in run.callbacks:
        if isinstance(callback, ModelCheckpoint | EarlyStopping):
            state = {
                key: getattr(value, "item", lambda value=value: value)()
                for key, value in callback.state_dict().items()
                if not isinstance(value, dict)
                and "path" not in key
                and key not in ("dirpath", "current_score")
            }
            found[type(callback).__name__] = state
    return found


def epoch_of(path: Path) -> int:
    """The epoch at whose end a checkpoint was written."""
    return torch.load(path, weights_only=True)["epoch"]


def test_best_weights_are_kept_and_training_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(tmp_path, ExportHF(check=False))
    folder = tmp_path / "checkpoints"
    assert epoch_of(folder / "best.ckpt") == RIGHT.index(16) == 1
    assert epoch_of(folder / "last.ckpt") == 4
    assert {path.name for path in folder.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "epoch=4-step=5.ckpt",
    }
    state = torch.load(folder / "best.ckpt", weights_only=True)
    assert "optimizer_states" not in state
    weights = state["state_dict"]["model.model.norm.weight"]
    assert not torch.equal(weights, run.lightning_module.model.model.norm.weight)
    said = capsys.readouterr().out
    assert "did not improve in the last 3 records. Best score: 0.571 (EarlyStopping)" in said
    assert f"best {ACCURACY}: {folder / 'best.ckpt'} (slm-math export" in said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> L.Trainer:
    """A run that nothing interrupted."""
    return fitted(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("stop", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_resumed_run_keeps_the_best_and_its_patience(
    stop: int, whole: L.Trainer, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    fitted(root, stop=stop)
    path, _ = newest_checkpoint(root, [root / "checkpoints"])
    assert path is not None
    again = fitted(root, resume=str(path))
    assert states(again) == states(whole)
    assert again.current_epoch == whole.current_epoch
    assert epoch_of(root / "checkpoints" / "best.ckpt") == 1
    assert not list(root.rglob("best-v*"))


@pytest.mark.slow
def test_patience_of_a_resumed_run_is_the_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the old one it would end at epoch 4."""
    fitted(tmp_path, stop=3)
    again = fitted(tmp_path, resume=str(tmp_path / "checkpoints" / "last.ckpt"), patience=6)
    assert again.current_epoch == 8
    said = capsys.readouterr().out
    assert "EarlyStopping.patience is 6 now, and was 3: 1 evaluations have passed" in said


def test_kill_between_the_two_checkpoints_of_an_epoch_leaves_one_best(tmp_path: Path) -> None:
    """The best is written, and the run goes on from before the evaluation."""
    fitted(tmp_path, stop=1)
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"of an epoch that was never finished")
    before = [*(tmp_path / "checkpoints").glob("epoch*"), tmp_path / "checkpoints" / "last.ckpt"]
    state = torch.load(before[-1], weights_only=False)
    state["callbacks"] = {k: v for k, v in state["callbacks"].items() if ACCURACY not in k}
    torch.save(state, before[-1])
    fitted(tmp_path, resume=str(before[-1]))
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == 1
    assert len(list((tmp_path / "checkpoints").glob("best*"))) == 1


def test_epochs_without_an_evaluation_do_not_count(tmp_path: Path) -> None:
    """Of epochs 1, 3, 5 and 7 the last but one is the best."""
    run = fitted(tmp_path, stop=6, every_n_epochs=2, looks=2)
    [early] = [each for each in run.callbacks if isinstance(each, EarlyStopping)]
    assert (early.best_score, early.wait_count) == (pytest.approx(26 / 28), 0)
    again = fitted(
        tmp_path, resume=str(tmp_path / "checkpoints" / "last.ckpt"), every_n_epochs=2, looks=2
    )
    [early] = [each for each in again.callbacks if isinstance(each, EarlyStopping)]
    assert (early.best_score, early.wait_count) == (1.0, 0)
    assert epoch_of(tmp_path / "checkpoints" / "best.ckpt") == 7


def test_last_is_never_the_best(tmp_path: Path) -> None:
    fitted(tmp_path, stop=2)
    folder = tmp_path / "checkpoints"
    os.utime(folder / "best.ckpt", (4e9, 4e9))  # as a copy may be
    path, _ = newest_checkpoint(tmp_path, [folder])
    assert path is not None
    assert path.name == "last.ckpt"


def test_step_with_the_best_evaluation_is_kept(tmp_path: Path) -> None:
    class ByStep(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            Scripted.right = (1, 18, 4, 5)[trainer.global_step // 2]

    best = ModelCheckpoint(
        tmp_path, "best", ACCURACY, mode="max", every_n_train_steps=2, save_weights_only=True
    )
    evaluation = AgentEval({"scripted": Scripted()}, limit=None, every_n_steps=2)
    run = trainer(
        tmp_path,
        callbacks=[best, ByStep(), evaluation],
        limit_train_batches=7,
        enable_checkpointing=True,
    )
    run.fit(sft(), data(Indexed()))
    assert best.best_model_score == pytest.approx(18 / 28)
    # global_step 2 and 3 have 18 right answers: the evaluation after step 4 counts them
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 4


# the config


@pytest.mark.parametrize("name", ["sft/full", "sft/lora", "grpo/solver", "quickstart/sft"])
def test_best_goes_over_a_training_config(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--config={ROOT / 'configs' / part}.yaml" for part in (name, "best")]
    own = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())["trainer"]["callbacks"]
    own = [spec if isinstance(spec, str) else spec["class_path"] for spec in own]
    with pytest.raises(SystemExit):
        run(["fit", *files, "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    classes = [spec["class_path"].rpartition(".")[2] for spec in config["trainer"]["callbacks"]]
    assert classes == [*own, "ModelCheckpoint", "EarlyStopping"]


def test_best_of_another_agent_is_what_the_refusal_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("grpo/solver", "grpo/self_correction", "fast", "best")
    files = [f"--config={ROOT / 'configs' / name}.yaml" for name in names]
    small = ["--model.policy.path=null", "--model.policy.scratch.layers=1"]
    files[2:3] = [*small, f"--trainer.default_root_dir={tmp_path / 'run'}"]
    with pytest.raises(SystemExit):
        run(["fit", *files])
    error = capsys.readouterr().err
    hint = error.rpartition("give --config '")[2].partition("'")[0]
    with pytest.raises(SystemExit):
        run(["fit", *files, f"--config={hint}", "--print_config"])
    callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    options = [spec["init_args"] for spec in callbacks[-2:]]
    assert [one["monitor"] for one in options] == 2 * ["eval/self_correction/accuracy"]
    assert [one["mode"] for one in options] == ["max", "max"]
    assert options[1]["patience"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft/lora", "grpo/solver"])
def test_run_with_the_config_makes_a_model_of_its_best(name: str, tmp_path: Path) -> None:
    files = [f"--config={ROOT / 'configs' / part}.yaml" for part in (name, "fast", "best")]
    small = ["--model.group_size=2", "--model.inference.sampling.max_new_tokens=6"]
    run(
        [
            *("fit", *files, "--torch_threads=1", "--trainer.enable_progress_bar=false"),
            *(small if name.startswith("grpo") else []),
            *("--trainer.max_epochs=9", "--trainer.limit_train_batches=1"),
            f"--trainer.default_root_dir={tmp_path}",
        ]
    )
    # nothing is ever right: the first epoch stays the best, and the fourth is the last
    assert len(list((tmp_path / "eval").iterdir())) == 4
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert epoch_of(best) == 0
    run(["export", str(best), "--out", str(tmp_path / "best")])
    assert (tmp_path / "best" / "model.safetensors").is_file()
