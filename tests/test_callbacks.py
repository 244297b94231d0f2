"""Callbacks: evaluations on disk, and what a console shows."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from rich.console import Console
from tiny import (
    chats,
    grpo,
    problems,
    sft,
    trainer,
    with_inference,
)

from slm_math.agents import SingleShot
from slm_math.callbacks import AgentEval, Progress, RolloutTable
from slm_math.policy.config import Policy
from slm_math.policy.scratch import Scratch
from slm_math.records.record import Record
from slm_math.types import Sampling

ASK = SingleShot("solve_plain")


def agent_eval(**options: Any) -> AgentEval:
    defaults = {"limit": 5, "sampling": Sampling(0.0, max_new_tokens=4)}
    return AgentEval({"one": ASK}, **with_inference(defaults | options))


def validate(root: Path, seed: int = 0) -> L.Trainer:
    run = trainer(root, callbacks=[agent_eval()])
    run.validate(
        sft(Policy(scratch=Scratch(hidden=32, layers=2, ffn=64, seed=seed))), chats(), verbose=False
    )
    return run


def read(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    manifest, summary = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "summary")
    )
    return [json.loads(line) for line in lines], manifest, summary


def test_evaluation_writes_every_transcript_and_logs_their_mean(tmp_path: Path) -> None:
    logged = validate(tmp_path).callback_metrics
    records, manifest, summary = read(tmp_path / "eval" / "validate" / "one")
    assert len({record["id"] for record in records}) == 5
    assert manifest["partial"] is False
    assert manifest["records"] == 5
    assert manifest["environment"]["versions"]["torch"] == torch.__version__
    mean = sum(record["correct"] for record in records) / 5
    assert summary["accuracy"] == logged["eval/one/accuracy"] == mean
    assert logged["eval/one/low"] <= mean < logged["eval/one/high"]


def test_interrupted_evaluation_resumes_without_touching_whole_records(tmp_path: Path) -> None:
    validate(tmp_path)
    file = tmp_path / "eval" / "validate" / "one" / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    validate(tmp_path)
    after = file.read_bytes().splitlines(keepends=True)
    assert after[:2] == lines[:2]  # seconds included, so they were not run again
    assert sorted(json.loads(line)["id"] for line in after) == sorted(
        json.loads(line)["id"] for line in lines
    )


def test_records_of_other_weights_are_set_aside(tmp_path: Path) -> None:
    validate(tmp_path)
    folder = tmp_path / "eval" / "validate"
    old = (folder / "one" / "records.jsonl").read_bytes()
    validate(tmp_path, seed=1)
    assert (folder / "one.replaced-1" / "records.jsonl").read_bytes() == old
    weights = [read(folder / name)[1]["identity"]["weights"] for name in ("one", "one.replaced-1")]
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    "limits", [{"max_steps": 3, "max_epochs": 10}, {"max_steps": 3, "max_epochs": -1}], ids=str
)
def test_evaluation_runs_after_the_last_step_too(limits: dict[str, int], tmp_path: Path) -> None:
    run = trainer(
        tmp_path, limit_train_batches=2, callbacks=[agent_eval(every_n_epochs=5)], **limits
    )
    run.fit(grpo(), problems())
    assert [folder.name for folder in (tmp_path / "eval").iterdir()] == ["epoch-1"]


def test_evaluation_of_grpo_logs_its_rewards_as_training_does(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        limit_train_batches=1,
        callbacks=[agent_eval(samples=2, sampling=Sampling(max_new_tokens=4))],
    )
    run.fit(grpo(), problems())
    logged = {name: value.item() for name, value in run.callback_metrics.items()}
    records, _, summary = read(tmp_path / "eval" / "epoch-0" / "one")
    rewards = [row["rewards"]["solver"] for row in records]
    assert set(rewards) == {0.0, 1.0}
    for name in ("reward", "reward/even"):
        assert logged[f"eval/one/{name}"] == pytest.approx(sum(rewards) / len(rewards))
    groups = [
        {row["rewards"]["solver"] for row in records if row["id"] == id}
        for id in {row["id"] for row in records}
    ]
    dead = sum(len(group) == 1 for group in groups) / len(groups)
    assert logged["eval/one/frac_reward_zero_std"] == pytest.approx(dead)
    shared = {name.removeprefix("train/") for name in logged if name.startswith("train/")}
    assert {
        "accuracy",
        "length",
        "truncated",
        "pass@2",
        "reward_std",
        "unscored",
        "turns",
    } <= shared & set(summary)


def test_evaluation_runs_every_n_epochs_and_after_the_last(tmp_path: Path) -> None:
    judge = agent_eval(every_n_epochs=2, at_start=True)
    run = trainer(tmp_path, max_epochs=3, limit_train_batches=1, callbacks=[judge])
    run.fit(sft(), chats())
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == [
        "epoch-1",
        "epoch-2",
        "start",
    ]
    assert "eval/one/accuracy" in run.callback_metrics


def test_rollout_table_shows_problems_and_rewards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(
        tmp_path, limit_train_batches=3, callbacks=[RolloutTable(every_n_batches=2, rows=2)]
    )
    run.fit(grpo(), problems())
    shown = capsys.readouterr().out
    assert shown.count("rollouts of epoch 0") == 2
    assert "solver" in shown
    assert "even" in shown


def test_rollout_table_shows_markup_and_control_characters_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = grpo()
    module.last_records = [
        Record(
            "p",
            0,
            problem="[red]a[/blue]",
            gold="[link=x]2",
            error="\x1b[2J[/]end\\",
            parts={"solver": {"[b]part": 1.0}},
            rewards={"solver": 1.0},
        )
    ]
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
    fake: Any = SimpleNamespace(
        current_epoch=0,
        is_global_zero=True,
        progress_bar_callback=None,
        fit_loop=fit_loop,
        loggers=[],
    )
    RolloutTable(every_n_batches=1).on_train_batch_end(fake, module, None, None, 0)
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    for text in ("[red]a[/blue]", "[link=x]2", "\\x1b[2J[/]end\\", "[b]part"):
        assert text in shown


def test_progress_without_a_terminal_prints_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: Any = {"enable_progress_bar": True, "limit_train_batches": 2}
    run = trainer(tmp_path, callbacks=[Progress(line_seconds=0.0), agent_eval()], **options)
    run.fit(grpo(), problems())
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert any(line.startswith("epoch 0, step 2 of 2: ") and "reward" in line for line in lines)
    assert any(re.fullmatch(r"rollouts(, \d+ tokens/s)?: 28 of 28", line) for line in lines)
    assert any(line.startswith("eval one, accuracy") and line.endswith("5 of 5") for line in lines)
    assert "\x1b" not in out


def test_the_bar_and_several_metrics_fit_80_columns_whole(tmp_path: Path) -> None:
    bar = Progress()
    options: Any = {"enable_progress_bar": True, "limit_train_batches": 2}
    trainer(tmp_path, callbacks=[bar], **options).fit(sft(), chats())
    assert bar.progress is not None
    names = ("train/loss", "val/loss", "single_shot", "code_feedback", "solver_verifier")
    bar._metric_component.update(dict.fromkeys(names, 0.1234))  # type: ignore[union-attr]
    screen = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    screen.print(bar.progress.get_renderable())
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "2/2" in lines[0]
    assert "it/s" in lines[0]
    assert max(map(len, lines)) <= 80
    assert all(any(f"{name}: 0.123" in line for line in lines[1:]) for name in names)


def test_progress_shows_how_fast_rollouts_are_sampled_before_one_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts, ends = iter([7, 57, 107]), iter([False, False, True])
    module = SimpleNamespace(
        phase=("rollouts", 0, 28), serving=SimpleNamespace(sampled=lambda: next(counts))
    )
    stop: Any = SimpleNamespace(wait=lambda seconds: next(ends), is_set=lambda: False)
    Progress(line_seconds=0.0).look(SimpleNamespace(), module, 0, stop)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"rollouts, [1-9]\d* tokens/s: 0 of 28", line) for line in lines)


def test_progress_prints_no_more_often_than_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, callbacks=[Progress(line_seconds=1000.0)], enable_progress_bar=True)
    run.fit(sft(), chats())
    assert "step" not in capsys.readouterr().out


def test_lines_of_phases_do_not_put_off_those_of_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(
        "slm_math.callbacks.progress.time", SimpleNamespace(monotonic=lambda: now[0])
    )

    class Slow(Progress):
        """Every phase takes 31 seconds, and a step nothing besides."""

        def show_progress(self, phase: str, done: int, total: int) -> None:
            now[0] += 31
            super().show_progress(phase, done, total)

    run = trainer(tmp_path, callbacks=[Slow()], enable_progress_bar=True, limit_train_batches=2)
    run.fit(grpo(), problems())
    lines = capsys.readouterr().out.splitlines()
    steps = [line.split(":")[0] for line in lines if line.startswith("epoch 0,")]
    assert steps == ["epoch 0, step 1 of 2", "epoch 0, step 2 of 2"]


def test_only_the_first_rank_prints_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "lightning.pytorch.strategies.SingleDeviceStrategy"
    monkeypatch.setattr(f"{kind}.is_global_zero", False)
    run = trainer(tmp_path, callbacks=[Progress(line_seconds=0.0)], enable_progress_bar=True)
    run.fit(sft(), chats())
    assert "step" not in capsys.readouterr().out
