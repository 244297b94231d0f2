"""What `fit` says when it ends."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from agent_eval import data
from monitored import Indexed, Scripted
from tiny import sft, trainer

from slm_math.callbacks import AgentEval, ExportHF, Summary
from slm_math.callbacks.summary import Curve, _next
from slm_math.cli import run
from slm_math.data.arithmetic import Arithmetic
from slm_math.data.chat_data import ChatData
from slm_math.data.table import Table

FAST = ["--config", "configs/fast.yaml", "--torch_threads", "1"]


def test_a_curve_shows_the_means_of_both_ends() -> None:
    curve = Curve()
    for value in range(100):
        curve.add(float(value))
    assert str(curve) == "4.5 -> 94.5 (first and last 10 steps of 100)"
    short = Curve()
    for value in (1.0, 2.0, 6.0, 8.0):
        short.add(value)
    assert str(short) == "1.5 -> 7 (first and last 2 steps of 4)"
    alone = Curve()
    alone.add(3.0)
    assert str(alone) == "3 -> 3 (first and last step of 1)"


@pytest.mark.parametrize(("at_start", "first"), [(False, "25.0"), (True, "0.0")])
def test_accuracies_are_those_of_the_first_and_the_last_evaluation(
    at_start: bool,
    first: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Scripted, "right", 0)

    class Climb(Summary):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            monkeypatch.setattr(Scripted, "right", (7, 21)[trainer.current_epoch])

    evaluation = AgentEval({"scripted": Scripted()}, limit=None, at_start=at_start)
    every = [evaluation, ExportHF(check=False), Climb()]
    options = {"max_epochs": 2, "limit_train_batches": 1}
    trainer(tmp_path / "run", callbacks=every, **options).fit(sft(), data(Indexed()))  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("scripted  ")]
    assert f"{first} -> 75.0 % [" in line
    assert f"change +{75 - float(first):.1f} [" in " ".join(lines)
    assert f"model: {tmp_path / 'run' / 'export'}" in lines
    assert f"next: slm-math report {tmp_path / 'run'}" in lines
    assert any(line.startswith("next: slm-math fit ") for line in lines)


def test_what_comes_next_asks_as_the_model_was_taught(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught = ChatData(Arithmetic(train=20, solve=20), batch_size=2, prompt="solve_plain")
    every = [ExportHF(check=False), Summary()]
    trainer(tmp_path, callbacks=every, limit_train_batches=1).fit(sft(), taught)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    export = tmp_path / "export"
    assert f"next: slm-math fit --config quickstart/grpo --model.policy.path {export}" in lines
    assert lines[-1] == (
        f'next: slm-math solve "PROBLEM" --model {export} --agent SingleShot --agent.prompt '
        "solve_plain"
    )


def test_a_run_that_trains_nothing_has_no_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, callbacks=[Summary()], limit_train_batches=0).fit(sft(), data())
    assert "next:" not in capsys.readouterr().out


def test_a_plan_that_cannot_be_made_leaves_the_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("of no known kind\nat all")

    monkeypatch.setattr("slm_math.planning.first_step.foresee", fails)
    monkeypatch.setattr(f"{Summary.__module__}.PLANNED_FROM", 0.0)
    run = trainer(tmp_path, callbacks=[Summary()], limit_train_batches=2)
    run.fit(sft(), data())
    lines = capsys.readouterr().out.splitlines()
    assert run.global_step == 2
    [place] = [n for n, line in enumerate(lines) if line.startswith("first step: ")]
    assert "MiB" in lines[place]
    assert lines[place + 1] == "  no plan to compare it with: of no known kind"


def test_fit_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{Summary.__module__}.PLANNED_FROM", 0.0)
    root = str(tmp_path / "grpo")
    run(["fit", "--config", "configs/grpo/solver.yaml", *FAST, "--trainer.default_root_dir", root])
    out = capsys.readouterr().out
    assert "reward" in out
    assert "time" in out
    for line in (
        r"first step: [\d.e-]+ s \(planned about [\d.e-]+ s\)",
        r"  sampled tokens: [\d,]+ \(planned at most [\d,]+ in one turn\)",
        r"  peak memory: [\d,]+ MiB \(planned [\d,]+ MiB\)",
    ):
        assert re.search(f"^{line}$", out, re.MULTILINE)
    [shown] = re.findall(r"^time +\d[\d:]* \(([^)]*)\)", out, re.MULTILINE | re.DOTALL)
    shares = [int(share) for share in re.findall(r"(\d+)%", shown)]
    assert 90 <= sum(shares) <= 102  # those below 1 % are left out
    assert f"next: slm-math report {root}" in out.splitlines()
    assert "slm-math fit" not in out  # it was reinforced already


def test_the_next_command_reads_the_same_columns(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("question,solution,my result\nWhat is 1 + 1?,It is 2.,2\n")
    run = trainer(tmp_path)
    run.datamodule = SimpleNamespace(source=Table(str(file), answer="my result"))  # type: ignore[attr-defined]
    _, line, _ = _next(run, sft(), "export")
    words = shlex.split(line)
    assert words[words.index("--data.source.answer") + 1] == "my result"
    assert "--data.source.problem" not in words
