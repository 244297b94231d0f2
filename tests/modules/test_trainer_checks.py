"""What a trainer must not be asked for is refused in one line, before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch import callbacks
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from tiny import chats, sft, trainer

from slm_math.cli import run
from slm_math.modules.optim import Optim
from slm_math.modules.trainer_checks import (
    check_callbacks,
    check_end,
    check_precision,
    check_strategy,
)


class MyAverage(callbacks.WeightAveraging):
    """A user's own."""


class Thaw(callbacks.BaseFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None: ...


HARMFUL: dict[str, tuple[L.Callback, str]] = {
    "EMAWeightAveraging": (callbacks.EMAWeightAveraging(decay=0.99), "never their average"),
    "StochasticWeightAveraging": (
        callbacks.StochasticWeightAveraging(swa_lrs=0.01),
        "never their average",
    ),
    "MyAverage": (MyAverage(), "never their average"),
    "GradientAccumulationScheduler": (
        callbacks.GradientAccumulationScheduler({1: 3}),
        r"set model\.tokens_per_batch",
    ),
    "LearningRateFinder": (callbacks.LearningRateFinder(), r"set optim\.lr"),
    "BatchSizeFinder": (callbacks.BatchSizeFinder(), r"depends on model\.tokens_per_batch"),
    "Thaw": (Thaw(), r"policy\.lora trains a part"),
    "ModelPruning": (callbacks.ModelPruning("random_unstructured"), "know no masks"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_callback_that_does_nothing_or_harm_is_refused(name: str, tmp_path: Path) -> None:
    callback, reason = HARMFUL[name]
    with pytest.raises(ValueError, match=f"callback {name} cannot work here: .*{reason}") as caught:
        check_callbacks(trainer(tmp_path, callbacks=[callbacks.Timer(), callback]))
    assert "\n" not in str(caught.value)


def test_callbacks_that_only_watch_are_taken(tmp_path: Path) -> None:
    watching = [callbacks.EarlyStopping("val/loss"), callbacks.LearningRateMonitor()]
    check_callbacks(trainer(tmp_path, callbacks=[*watching, callbacks.DeviceStatsMonitor()]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": [callbacks.EMAWeightAveraging()]}, "EMAWeightAveraging cannot work here"),
        ({"precision": "16-true"}, "precision 16-true is not supported"),
        ({"max_epochs": -1, "max_time": "00:00:05:00"}, r"optim\.schedule cosine needs an end"),
        ({"strategy": FSDPStrategy(), "devices": 1}, "FSDPStrategy would shard nothing"),
    ],
    ids=["average", "fp16 weights", "no end", "shards"],
)
def test_it_is_refused_before_the_model_is_loaded(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a GPU Lightning refuses FSDP before anyone else can
    monkeypatch.setattr(
        "lightning.pytorch.trainer.connectors.accelerator_connector"
        "._AcceleratorConnector._check_strategy_and_fallback",
        lambda self: None,
    )
    module = sft()
    with pytest.raises(ValueError, match=message) as caught:
        trainer(tmp_path, **options).fit(module, chats())
    assert "\n" not in str(caught.value)
    assert module.loaded is None


@pytest.mark.parametrize("name", ["16", "16-true", "16-mixed", 64, "64-true", "e4m3"])
def test_weights_of_another_precision_are_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=rf"trainer\.precision {name}.* is not supported .*bf16-m"):
        check_precision(name)


@pytest.mark.parametrize("name", ["32-true", "32", 32, "bf16", "bf16-mixed", "bf16-true"])
def test_other_precisions_are_taken(name: Any) -> None:
    check_precision(name)


@pytest.mark.parametrize(
    "strategy",
    [
        "ddp_spawn",
        "ddp_fork",
        "ddp_notebook",
        "ddp_spawn_find_unused_parameters_true",
        DDPStrategy(start_method="spawn"),
        DDPStrategy(start_method="fork"),
    ],
    ids=lambda one: one if isinstance(one, str) else f"object, {one._start_method}",
)
def test_strategies_that_copy_the_process_are_refused(strategy: Any) -> None:
    with pytest.raises(ValueError, match=r"copies this process.* use ddp") as caught:
        check_strategy(strategy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("precision=transformer-engine", "trainer.precision transformer-engine is not supported"),
        ("max_time=00:00:20:00", "optim.schedule cosine needs an end that is known in steps"),
        ("callbacks+=EMAWeightAveraging", "callback EMAWeightAveraging cannot work here"),
    ],
)
def test_the_command_line_refuses_it_in_one_line(
    option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    with pytest.raises(SystemExit) as stop:
        run(
            [
                *("fit", "--config=configs/sft/full.yaml", "--config=configs/fast.yaml"),
                *("--trainer.max_epochs=-1", f"--trainer.default_root_dir={root}"),
                f"--trainer.{option}",
            ]
        )
    said = [line for line in capsys.readouterr().err.splitlines() if "slm-math: error" in line]
    assert stop.value.code == 2
    assert len(said) == 1
    assert message in said[0]
    assert not root.exists()


@pytest.mark.parametrize(
    ("limits", "optim", "ends"),
    [
        ({"max_epochs": -1}, Optim(), False),
        ({"max_epochs": -1}, Optim(schedule="constant"), False),
        ({"max_epochs": -1}, Optim(schedule="constant", warmup=5), True),
        ({"max_epochs": -1}, Optim(schedule="constant", warmup=0), True),
        ({"max_epochs": -1, "max_steps": 9}, Optim(), True),
        ({"max_epochs": 2}, Optim(), True),
    ],
)
def test_schedule_needs_an_end(
    limits: dict[str, int], optim: Optim, ends: bool, tmp_path: Path
) -> None:
    run = trainer(tmp_path, **limits)
    if ends:
        check_end(run, optim)
    else:
        with pytest.raises(ValueError, match=r"set one of them, or optim\.schedule constant"):
            check_end(run, optim)


def test_constant_rate_needs_none(tmp_path: Path) -> None:
    class Enough(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 5

    module = sft(optim=Optim(lr=0.02, schedule="constant", warmup=2))
    run = trainer(tmp_path, max_epochs=-1, callbacks=[Enough()])
    run.fit(module, chats(limit=16))
    assert run.global_step == 5
    assert module.optimizers().param_groups[0]["lr"] == 0.02
