"""The log of rollouts: what a line says, and what becomes of the lines of an older or interrupted
run.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import Duo, Even, chats, first_reply, grpo, problems, sft, trainer

from slm_math.answers.graded import GradedTrace
from slm_math.callbacks import Checkpoints, RolloutLog
from slm_math.callbacks.rollout_log import drop_from
from slm_math.records.encoding import to_json
from slm_math.records.record import Record

BATCH_ROWS = 28  # rollouts of a batch: 7 problems, 4 samples of each


class Sometimes(Even):
    """No score for one sample of a group."""

    def __call__(self, graded: GradedTrace) -> float:
        return float("nan") if graded.trace.sample == 1 else super().__call__(graded)


class At(L.Callback):
    """Does something before a batch: what another process would do, or a kill."""

    def __init__(self, epoch: int, batch: int, act: Callable[[], None]) -> None:
        self.at, self.act = (epoch, batch), act

    def on_train_batch_start(
        self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            self.act()


def killed() -> None:
    raise InterruptedError


def fit(root: Path, *callbacks: L.Callback, ckpt: Path | None = None, **options: Any) -> Any:
    module = grpo()
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    options = {
        "max_epochs": 3,
        "callbacks": [RolloutLog(), *callbacks],
        "enable_checkpointing": saves,
    } | options
    trainer(root, **options).fit(module, problems(limit=14), ckpt_path=ckpt)
    return module


def strict(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; every line must be whole, valid JSON."""
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    assert rest == ""
    return [json.loads(line, parse_constant=strict) for line in lines]


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The log of a run of 3 epochs of 2 batches that nobody interrupted."""
    root = tmp_path_factory.mktemp("straight")
    fit(root)
    return read(root / "rollouts.jsonl")


def test_every_rollout_of_every_batch_has_a_line(straight: list[dict[str, Any]]) -> None:
    places = [(row["epoch"], row["batch"]) for row in straight]
    assert places == [
        (epoch, batch) for epoch in range(3) for batch in range(2) for _ in range(BATCH_ROWS)
    ]
    assert len({(row["epoch"], row["id"], row["sample"]) for row in straight}) == len(straight)


def test_line_holds_prompt_reply_rewards_and_advantages(tmp_path: Path) -> None:
    module = fit(tmp_path / "new" / "folder", max_epochs=1, limit_train_batches=1)
    rows = read(tmp_path / "new" / "folder" / "rollouts.jsonl")
    for row, rollout, record in zip(rows, module.last_rollouts, module.last_records, strict=True):
        assert {**row, **to_json(record)} == row
        turn = rollout.trace.turns[0]
        assert row["prompt"] == turn.request.chat[-1].text
        assert row["problem"] in row["prompt"]
        assert row["completion"] == turn.reply.text
        assert row["rewards"] == rollout.rewards
        assert row["advantages"] == record.advantages != {}
        assert (row["epoch"], row["batch"], row["step"]) == (0, 0, 1)


def test_prompt_and_completion_are_those_of_the_trained_role(tmp_path: Path) -> None:
    judge = {"rewards": [Even(role="judge"), Even()], "train_roles": ("judge", "solver")}
    module = grpo(agent=Duo(), **judge)
    trainer(tmp_path, limit_train_batches=1, callbacks=[RolloutLog()]).fit(module, problems())
    for row, rollout in zip(read(tmp_path / "rollouts.jsonl"), module.last_rollouts, strict=True):
        assert row["completion"] == first_reply(rollout.trace, "judge").text
        assert row["prompt"] == rollout.task.problem.text


def test_rewards_without_a_value_are_null(tmp_path: Path) -> None:
    module = grpo(rewards=[Sometimes()])
    trainer(tmp_path, limit_train_batches=1, callbacks=[RolloutLog()]).fit(module, problems())
    for row in read(tmp_path / "rollouts.jsonl"):
        missing = row["sample"] == 1
        assert (
            (row["rewards"]["solver"] is None)
            == (row["parts"]["solver"]["sometimes"] is None)
            == missing
        )


def test_text_of_any_kind_becomes_one_line_of_json(tmp_path: Path) -> None:
    text, fake = '½\u2028\x00\r\n\ud800 "\\', grpo()
    fake.last_records = [Record("p", 0, problem=text, seconds=float("inf"))]
    run: Any = SimpleNamespace(
        current_epoch=0, global_step=0, global_rank=3, default_root_dir=tmp_path
    )
    RolloutLog().on_train_batch_end(run, fake, None, None, 0)
    [row] = read(tmp_path / "rollouts.rank-3.jsonl")
    assert (row["problem"], row["seconds"], row["completion"]) == (text, None, None)
    shown = (tmp_path / "rollouts.rank-3.jsonl").read_text(encoding="utf-8")
    assert "½" in shown
    assert len(shown.splitlines()) == 1
    assert "\x9b" not in shown


def test_log_is_whole_while_training_runs(tmp_path: Path) -> None:
    seen: list[int] = []
    looks = [
        At(0, batch, lambda: seen.append(len(read(tmp_path / "rollouts.jsonl"))))
        for batch in (1, 2, 3)
    ]
    trainer(tmp_path, callbacks=[*looks, RolloutLog()]).fit(grpo(), problems())
    assert seen == [28, 56, 84]


def test_only_every_nth_batch_is_logged(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[RolloutLog(every_n_batches=3)]).fit(grpo(), problems())
    assert {row["batch"] for row in read(tmp_path / "rollouts.jsonl")} == {0, 3}


BATCH = {"every_n_train_steps": 1, "save_top_k": -1}
EPOCH = {"save_on_train_epoch_end": True, "save_top_k": -1}


@pytest.mark.parametrize(
    ("saving", "limits", "step", "kept"),
    [
        pytest.param(BATCH, {}, 1, 1, marks=pytest.mark.slow),
        (BATCH, {}, 2, 2),  # an epoch's last batch, before its end
        pytest.param(EPOCH, {}, 2, 2, marks=pytest.mark.slow),
        (EPOCH, {"max_epochs": None, "max_steps": 6}, 2, 2),  # where Lightning restores epoch 0
    ],
    ids=["mid-epoch", "last-batch", "epoch-end", "steps-epoch-end"],
)
def test_resumed_log_is_that_of_a_run_without_interruption(
    saving: Any, limits: Any, step: int, kept: int, straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(InterruptedError):
        fit(tmp_path, ModelCheckpoint(tmp_path, **saving), At(2, 0, killed), **limits)
    log = tmp_path / "rollouts.jsonl"
    before = log.read_bytes().splitlines(keepends=True)
    assert len(before) == 4 * BATCH_ROWS
    log.write_bytes(b"".join(before) + before[-1][:40])  # the kill cut a line off
    [ckpt] = tmp_path.glob(f"*step={step}.ckpt")
    fit(tmp_path, ckpt=ckpt, **limits)
    after = log.read_bytes().splitlines(keepends=True)
    assert after[: kept * BATCH_ROWS] == before[: kept * BATCH_ROWS]  # seconds included
    assert after[kept * BATCH_ROWS : len(before)] != before[kept * BATCH_ROWS :]
    assert timeless(read(log)) == timeless(straight)
    assert [path.name for path in tmp_path.glob("rollouts*")] == ["rollouts.jsonl"]


def test_checkpoint_of_an_interrupt_loses_and_repeats_no_line(
    straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    saver = Checkpoints(tmp_path / "c", minutes=0.0)
    with pytest.raises(InterruptedError):
        fit(tmp_path, saver, At(1, 1, killed))
    fit(tmp_path, ckpt=tmp_path / "c" / "last.ckpt")
    assert timeless(read(tmp_path / "rollouts.jsonl")) == timeless(straight)


def test_rewriting_keeps_lines_that_it_does_not_know(tmp_path: Path) -> None:
    log = tmp_path / "rollouts.jsonl"
    known, repeated = (
        json.dumps({"epoch": 1, "batch": batch}).encode() + b"\n" for batch in (4, 5)
    )
    log.write_bytes(b"# a note\n[1]\n" + known + repeated + b"\xff\n" + b'{"epoch"')
    drop_from(log, 1, 5)
    assert log.read_bytes() == b"# a note\n[1]\n" + known + b"\xff\n"


def test_training_further_with_the_same_trainer_adds_to_the_log(
    straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    module, data = grpo(), problems(limit=14)
    run = trainer(tmp_path, callbacks=[RolloutLog()])
    run.fit(module, data)
    run.fit_loop.max_epochs = 2
    run.fit(module, data)
    places = {(row["epoch"], row["batch"]) for row in read(tmp_path / "rollouts.jsonl")}
    assert places == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_other_trainings_have_no_log(tmp_path: Path) -> None:
    trainer(tmp_path, limit_train_batches=1, callbacks=[RolloutLog()]).fit(sft(), chats())
    assert not list(tmp_path.glob("rollouts*"))
