"""A run ends when nothing is learned any more, and says why it ended."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import EarlyStopping, Timer
from tiny import chats, grpo, problems, sft, trainer

from slm_math.answers.graded import GradedTrace
from slm_math.callbacks import StopReason
from slm_math.modules.idle import IdleBatches
from slm_math.rewards import Reward


class Same(Reward):
    """Every sample earns the same, so that no group teaches."""

    def __call__(self, graded: GradedTrace) -> float:
        return 0.25


def test_run_in_which_no_group_teaches_ends_at_max_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, max_steps=2, max_epochs=-1)
    run.fit(grpo(rewards=[Same()], group_size=2), problems(batch_size=2))
    assert run.fit_loop.epoch_loop.total_batch_idx + 1 == 2
    assert run.global_step == 0
    said = capsys.readouterr().out
    assert said.count("training stopped: 2 batches in a row led to no update") == 1
    assert "0 of 2 updates were made" in said


def counted(steps: list[int], max_steps: int) -> tuple[int, bool]:
    """-> the batches that ran, and whether the trainer was stopped; `steps` are the optimizer steps
    after each batch.
    """
    fake: Any = SimpleNamespace(max_steps=max_steps, should_stop=False, is_global_zero=False)
    idle = IdleBatches()
    for number, step in enumerate(steps, 1):
        fake.global_step = step
        idle.batch_ended(fake)
        if fake.should_stop:
            return number, True
    return len(steps), False


@pytest.mark.parametrize(
    ("steps", "max_steps", "expected"),
    [
        ([0, 0, 0, 0], 3, (3, True)),
        ([0, 0, 1, 1, 1, 2], 3, (6, False)),
        ([1, 1, 1, 1], 3, (4, True)),
        ([2, 2, 4, 4], 4, (4, False)),  # two passes
        ([0] * 50, -1, (50, False)),
    ],
)
def test_batches_without_an_update_count_in_a_row(
    steps: list[int], max_steps: int, expected: tuple[int, bool]
) -> None:
    assert counted(steps, max_steps) == expected


REASONS: dict[str, tuple[dict[str, Any], list[L.Callback], str]] = {
    "steps": (
        {"max_steps": 2, "max_epochs": -1},
        [],
        "training stopped in epoch 0 after 2 of 3 batches: max_steps 2 is reached",
    ),
    "early": (
        {"max_epochs": 4},
        [EarlyStopping("val/loss", stopping_threshold=1e3)],
        "training stopped in epoch 0 after 3 of 3 batches: Stopping threshold reached: val/loss = ",
    ),
    "time": (
        {"max_epochs": 4},
        [Timer({"microseconds": 1})],
        "training stopped in epoch 0 after 1 of 3 batches: the time limit (max_time) is reached",
    ),
    "no epochs": ({"max_epochs": 0}, [], "nothing was trained: max_epochs 0 is reached"),
    "no batches": (
        {"limit_train_batches": 0},
        [],
        "nothing was trained: there are no training batches",
    ),
}


@pytest.mark.parametrize("kind", REASONS)
def test_reason_of_an_early_end_is_printed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, callbacks, expected = REASONS[kind]
    run = trainer(tmp_path, callbacks=[*callbacks, StopReason()], **options)
    run.fit(sft(), chats(limit=24))
    said = [
        line
        for line in capsys.readouterr().out.splitlines()
        if "trained" in line or "training" in line
    ]
    assert len(said) == 1
    assert said[0].startswith(expected)


def test_end_of_the_last_epoch_needs_no_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, callbacks=[StopReason()]).fit(sft(), chats(limit=16))
    assert "train" not in capsys.readouterr().out.replace("transformers", "")


def test_report_of_a_profiler_is_not_silenced() -> None:
    import_module("slm_math.training")  # which silences Lightning
    assert logging.getLogger("lightning.pytorch.profilers.profiler").isEnabledFor(logging.INFO)
    assert not logging.getLogger("lightning.pytorch.utilities.rank_zero").isEnabledFor(logging.INFO)


def test_count_of_idle_batches_is_that_of_the_run(tmp_path: Path) -> None:
    """Or a run that is killed now and then would never end."""
    idle = IdleBatches()
    run = SimpleNamespace(global_step=5, max_steps=3, should_stop=False, is_global_zero=False)
    idle.load([2, 5])
    idle.batch_ended(run)  # type: ignore[arg-type]
    assert run.should_stop
    assert idle.state() == [3, 5]
