"""ModelCheckpoint and EarlyStopping on metrics of agents, as configs/best.yaml has them: the best
weights are kept, training stops, and both go on where they were.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from agent_eval import Ones, data
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from tiny import grpo, problems, sft, trainer

from callbacks import AgentEval, Checkpoints, ExportHF, StopReason
from slm_math.agents import Agent
from slm_math.checkpoint_files import newest_checkpoint
from slm_math.cli import run
from slm_math.types import Problem, Workflow

ROOT = Path(__file__).parents[1]
ACCURACY = "eval/scripted/accuracy"
# right answers of 28 in each epoch: the best is the second, and three follow that are no better
RIGHT = (3, 16, 5, 16, 2, 26, 28, 28)


class Scripted(Agent):
    """Is right on as many problems as a script says for the epoch."""

    right = 0

    def solve(self, problem: Problem) -> Workflow[str | None]:
        right = int(problem.id.rpartition("/")[2]) < self.right
        return "1" if right else "0"
        yield


class Script(L.Callback):
    """Lets epoch n have RIGHT[n] right answers; `stop` ends the run at an epoch as a kill would."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        Scripted.right = RIGHT[trainer.current_epoch]
        if trainer.current_epoch == self.stop:
            raise RuntimeError("killed")


class Indexed(Ones):
    """Problems whose ids end in their numbers, from 0."""

    def tasks(self, split: Any) -> list[Any]:
        return [
            replace(task, problem=replace(task.problem, id=f"{split}/{number}"))
            for number, task in enumerate(super().tasks(split))
        ]


def watching(monitor: str = ACCURACY, **options: Any) -> tuple[ModelCheckpoint, EarlyStopping]:
    """The callbacks of configs/best.yaml, on another monitor; `options` are of the first."""
    content = yaml.safe_load((ROOT / "configs/best.yaml").read_text())
    best, early = content["trainer"]["callbacks+"]
    assert (best.pop("class_path"), early.pop("class_path")) == ("ModelCheckpoint", "EarlyStopping")
    new = {"monitor": monitor}
    return ModelCheckpoint(**(best | new | options)), EarlyStopping(**(early | new))


def fitted(
    root: Path,
    *more: L.Callback,
    resume: str | None = None,
    stop: int | None = None,
    looks: int = 1,
    **options: Any,
) -> L.Trainer:
    """A run of eight epochs at most, with checkpoints and what configs/best.yaml adds."""
    best, early = watching(dirpath=str(root / "checkpoints"), every_n_epochs=looks)
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
    return torch.load(path, weights_only=True)["epoch"]


def test_best_weights_are_kept_and_training_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted(tmp_path, ExportHF())
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


@pytest.mark.parametrize("stop", [1, 4])
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


# what is known before training


def refused(
    tmp_path: Path, callbacks: Sequence[L.Callback], module: Any = None, **options: Any
) -> str:
    module = module or sft()
    source = problems() if type(module).__name__ == "GRPOModule" else data(Indexed())
    fit = trainer(tmp_path, callbacks=list(callbacks), enable_checkpointing=True, **options)
    with pytest.raises(ValueError, match="monitors") as caught:
        fit.fit(module, source)
    assert module.loaded is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


NAMES = {
    "eval/script/accuracy": "this run has eval/scripted/NAME, val/loss, val/token_accuracy, train/",
    "val/scripted/accuracy": "an accuracy is eval/scripted/accuracy",
    "val_loss": "val/loss",
}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_name_that_nothing_logs_is_refused_before_a_model_loads(
    name: str, which: int, tmp_path: Path
) -> None:
    evaluation = AgentEval({"scripted": Scripted()})
    error = refused(tmp_path, [watching(name)[which], evaluation])
    assert f"monitors {name}, which nothing logs" in error
    assert NAMES[name] in error


def test_grpo_logs_nothing_in_validation(tmp_path: Path) -> None:
    error = refused(
        tmp_path, [watching("val/loss")[0], AgentEval({"scripted": Scripted()})], grpo()
    )
    assert "this run has eval/scripted/NAME, train/NAME (" in error


def test_other_sets_of_problems_come_before_the_agent(tmp_path: Path) -> None:
    evaluation = AgentEval({"scripted": Scripted()}, sources={"small": Indexed()})
    assert "eval/small/scripted/NAME" in refused(tmp_path, [watching()[0], evaluation])


@pytest.mark.parametrize(
    "name", [ACCURACY, "scripted", "eval/scripted/low", "eval/scripted/pass@4"]
)
def test_search_for_the_worst_accuracy_is_refused(name: str, tmp_path: Path) -> None:
    wrong = ModelCheckpoint(monitor=name)
    assert "set mode: max" in refused(tmp_path, [wrong, AgentEval({"scripted": Scripted()})])


def test_agent_that_is_not_there_is_refused_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"--config={ROOT / 'configs' / name}.yaml" for name in ("sft/full", "fast")]
    with pytest.raises(SystemExit):
        run(
            [
                *("fit", *files, f"--trainer.default_root_dir={tmp_path / 'run'}"),
                '--config={"trainer": {"callbacks": []}}',
                f"--config={ROOT / 'configs/best.yaml'}",
            ]
        )
    error = capsys.readouterr().err
    assert "monitors eval/single_shot/accuracy, which nothing logs" in error
    assert not (tmp_path / "run").exists()


class Own(L.Callback):
    """Logs what it likes."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.log("mine", 0.5)


def test_names_of_callbacks_of_ones_own_are_theirs(tmp_path: Path) -> None:
    early = EarlyStopping("mine", mode="max", check_on_train_epoch_end=True)
    other = ModelCheckpoint(tmp_path, monitor="train/loss", save_on_train_epoch_end=True)
    fit = trainer(
        tmp_path, callbacks=[Own(), early, other], limit_train_batches=1, enable_checkpointing=True
    )
    fit.fit(sft(), data())
    assert early.best_score == 0.5
    assert other.best_model_path


@pytest.mark.parametrize("at_start", [True, False])
def test_metric_that_an_agent_has_not_is_named_after_its_first_evaluation(
    at_start: bool, tmp_path: Path
) -> None:
    evaluation = AgentEval({"scripted": Scripted()}, limit=None, at_start=at_start)
    best, _ = watching("eval/scripted/acuracy")
    fit = trainer(
        tmp_path, callbacks=[evaluation, best], limit_train_batches=1, enable_checkpointing=True
    )
    said = "monitors eval/scripted/acuracy, and eval/scripted has no acuracy: it has accuracy, "
    with pytest.raises(ValueError, match=said):
        fit.fit(sft(), data(Indexed()))
    assert fit.global_step == (0 if at_start else 1)


TIMES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "after validation": (
        ModelCheckpoint(monitor=ACCURACY, mode="max", save_on_train_epoch_end=False),
        {},
        "set save_on_train_epoch_end: true",
    ),
    "validation by steps": (
        EarlyStopping(ACCURACY, mode="max"),
        {"val_check_interval": 0.5},
        "set check_on_train_epoch_end: true",
    ),
    "strict": (EarlyStopping(ACCURACY, mode="max"), {"every": 3}, "set strict: false"),
    "every epoch": (
        ModelCheckpoint(monitor=ACCURACY, mode="max", every_n_epochs=2),
        {"every": 3},
        "set its every_n_epochs: 3",
    ),
}


@pytest.mark.parametrize("kind", TIMES)
def test_look_where_there_is_no_evaluation_is_refused(kind: str, tmp_path: Path) -> None:
    callback, options, said = TIMES[kind]
    evaluation = AgentEval({"scripted": Scripted()}, every_n_epochs=options.pop("every", 1))
    assert said in refused(tmp_path, [callback, evaluation], **options)


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
