"""What callbacks monitor: a name that nothing logs, or a look when there is no evaluation, is
refused before a model loads.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from agent_eval import data
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from monitored import ACCURACY, ROOT, Indexed, Scripted, watching
from tiny import grpo, problems, sft, trainer

from slm_math.callbacks import AgentEval
from slm_math.cli import run


def refused(
    tmp_path: Path, callbacks: Sequence[L.Callback], module: Any = None, **options: Any
) -> str:
    """The line in which a run is refused before its model loads."""
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
    "name",
    [
        *(ACCURACY, "scripted", "val/token_accuracy", "train/reward"),
        *(f"eval/scripted/{name}" for name in ("low", "pass@4", "round_2/accuracy", "oracle")),
        *(f"eval/scripted/{name}" for name in ("balanced_accuracy", "level/3/low")),
    ],
)
def test_search_for_the_worst_accuracy_is_refused(name: str, tmp_path: Path) -> None:
    wrong = ModelCheckpoint(monitor=name)
    assert "set mode: max" in refused(tmp_path, [wrong, AgentEval({"scripted": Scripted()})])


def test_few_names_of_many_agents_are_listed(tmp_path: Path) -> None:
    evaluation = AgentEval(
        {f"{word}_agent": Scripted() for word in ("a", "b", "c", "d", "e", "f", "g", "second")}
    )
    error = refused(tmp_path, [watching("eval/secnd_agent/accuracy")[0], evaluation])
    assert "this run has eval/second_agent/NAME, eval/" in error
    assert "and 4 more of eval/" in error
    assert len(error) < 600


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
    said = "monitors eval/scripted/acuracy, and eval/scripted has no acuracy; the nearest are acc"
    with pytest.raises(ValueError, match=said) as caught:
        fit.fit(sft(), data(Indexed()))
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300
    summary = str(caught.value).rpartition(", and ")[2].partition(" ")[0]
    assert "accuracy" in json.loads(Path(summary).read_text())
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
