"""A run that is asked to stop finishes its step, saves, says so, and has a shell's exit status."""

import csv
import itertools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from tiny import chats, sft, trainer

from slm_math.callbacks import Checkpoints, Summary
from slm_math.cli import run
from slm_math.stopping import Stopped, stoppable, stopping

ASKS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The handlers of a process that runs in a terminal, and afterwards those of the tests."""
    before = {number: signal.getsignal(number) for number in ASKS}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fit(
    root: Path,
    number: int,
    times: int = 1,
    step: int = 2,
    more: Sequence[L.Callback] = (),
    **options: Any,
) -> L.Trainer:
    """Trains for six steps, and sends a signal inside of one of them."""
    module = sft()
    training_step, steps = module.training_step, []

    def signaled(batch: Any, batch_idx: int) -> None:
        steps.append(batch_idx)
        for _ in range(times if len(steps) == step + 1 else 0):
            signal.raise_signal(number)
        training_step(batch, batch_idx)

    module.training_step = signaled  # type: ignore[method-assign]
    callbacks = [*more, Checkpoints()]
    made = trainer(
        root, callbacks=callbacks, limit_train_batches=6, enable_checkpointing=True, **options
    )
    made.fit(module, chats())
    return made


def saved_step(root: Path) -> int:
    path = root / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)["global_step"]


@pytest.mark.parametrize("number", ASKS)
def test_signal_lets_the_step_finish_and_saves(
    number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, number)
    stop = ended.value.__context__
    assert isinstance(stop, Stopped)
    assert stop.status == ASKS[signal.Signals(number)]
    assert saved_step(tmp_path) == 3
    name = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    error = capfd.readouterr().err
    assert f"{name} after step 3: " in error
    assert "--ckpt_path last resumes from it" in error


def test_step_that_was_finished_is_logged_and_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = CSVLogger(tmp_path, name="logs")
    with pytest.raises(SystemExit):
        fit(tmp_path, signal.SIGTERM, more=[Summary()], logger=board, log_every_n_steps=1)
    with open(f"{board.log_dir}/metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss"]] == ["0", "1", "2"]
    out = capsys.readouterr().out
    assert "(first and last step of 3)" in " ".join(out.split())
    assert f"next: slm-math report {tmp_path}" in out.splitlines()


def test_second_signal_stops_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(step=0.6)  # the second of them is the same request, the third not
    monkeypatch.setattr("slm_math.stopping.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    with pytest.raises(SystemExit):
        fit(tmp_path, signal.SIGTERM, times=3)
    assert "after step 2: no checkpoint was written yet" in capfd.readouterr().err


def test_signal_that_a_launcher_passes_on_is_the_same_request(tmp_path: Path) -> None:
    """The process group gets it, and torchrun or Slurm sends it again."""
    with pytest.raises(SystemExit):
        fit(tmp_path, signal.SIGTERM, times=2)
    assert saved_step(tmp_path) == 3


@pytest.mark.parametrize("number", ASKS)
def test_ignored_signal_stays_ignored(number: int, tmp_path: Path) -> None:
    """`nohup` ignores SIGHUP, a shell SIGINT in its background jobs."""
    signal.signal(number, signal.SIG_IGN)
    assert fit(tmp_path, number).global_step == 6


def test_signal_after_the_steps_of_a_shortened_epoch_stops_at_once(tmp_path: Path) -> None:
    """An epoch that `max_steps` ends has no further step for whose end a signal could wait."""

    class InEvaluation(L.Callback):
        def on_train_epoch_end(self, *args: Any) -> None:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("the evaluation went on")

    callbacks = [Checkpoints(), InEvaluation()]
    run = trainer(tmp_path, callbacks=callbacks, max_steps=2, enable_checkpointing=True)
    with pytest.raises(SystemExit):
        run.fit(sft(), chats())


def test_requests_of_other_ranks_and_of_slurm_wait_for_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would save for Slurm in the middle of a step; the SIGTERM of a requeued job ends
    the run after a step.
    """
    for name, value in {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    requeued: list[tuple[bool, int]] = []
    during: list[bool] = []
    monkeypatch.setattr(
        _SignalConnector,
        "_slurm_sigusr_handler_fn",
        lambda self, *_: requeued.append((bool(during), self.trainer.global_step)),
    )
    module = sft()
    training_step = module.training_step

    def signaled(batch: Any, batch_idx: int) -> None:
        during.append(True)
        if batch_idx == 2:
            signal.raise_signal(signal.SIGUSR1)
        if batch_idx == 4:
            signal.raise_signal(signal.SIGTERM)
        training_step(batch, batch_idx)
        during.clear()

    module.training_step = signaled  # type: ignore[method-assign]
    made = trainer(
        tmp_path,
        callbacks=[Checkpoints()],
        limit_train_batches=6,
        enable_checkpointing=True,
        plugins=[SLURMEnvironment(auto_requeue=True)],
    )
    with pytest.raises(SystemExit):
        made.fit(module, chats())
    assert requeued == [(False, 3)]
    assert made.global_step == 5
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_other_ranks_stop_with_the_one_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slm_math.callbacks.checkpoints.most", lambda trainer, flags: [143, 0, 1])

    class Rank:
        is_global_zero = False

    stop, requeues, late = Checkpoints()._agreed(Rank(), late=False)  # type: ignore[arg-type]
    assert (requeues, late) == (False, True)
    assert stop is not None
    assert stop.reason == "SIGTERM"


@pytest.mark.parametrize("number", ASKS)
def test_command_stops_with_the_status_of_the_signal(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("slm_math.cli._command", lambda *_: signal.raise_signal(number))
    for command, resumes in (("eval", True), ("results", False)):
        with pytest.raises(SystemExit) as ended:
            run([command, "folder"])
        assert ended.value.code == ASKS[signal.Signals(number)]
        error = capfd.readouterr().err
        assert ("run the same command to resume" in error) == resumes
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@contextmanager
def piped() -> Iterator[int]:
    """A stdout that is read from a pipe, whose other end is yielded."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield reader


def test_closed_stdout_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with piped() as reader:
        os.close(reader)
        with pytest.raises(SystemExit) as ended:
            run(["--help"])
    assert ended.value.code == 141
    assert "Stopped by a closed stdout (Broken pipe)" in capfd.readouterr().err


def test_full_disk_under_stdout_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended:
            run(["--version"])
    assert ended.value.code == 1
    assert "No space left on device" in capfd.readouterr().err


def test_closed_stdout_lets_the_step_finish_and_saves(tmp_path: Path) -> None:
    class Prints(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == 3:
                os.close(reader)
                print("a loss", flush=True)

    saver = [Prints(), Checkpoints()]
    made = trainer(tmp_path, callbacks=saver, limit_train_batches=6, enable_checkpointing=True)
    with piped() as reader, pytest.raises(SystemExit) as ended, stoppable():
        made.fit(sft(), chats())
    stop = ended.value.__context__
    assert isinstance(stop, Stopped)
    assert stop.status == 141
    assert saved_step(tmp_path) == 3


def test_broken_stderr_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with stoppable():
            print("a warning", file=sys.stderr, flush=True)
        assert stopping.pending is None


def test_worker_that_was_forked_leaves_interrupts_to_its_parent() -> None:
    with stoppable():
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGHUP)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
