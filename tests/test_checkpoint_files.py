"""Checkpoints are whole, or not there; one that is damaged is named, and another one used."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from tiny import chats, sft, trainer

from slm_math.callbacks import Checkpoints
from slm_math.checkpoint_files import (
    CheckpointFiles,
    damage,
    newest_checkpoint,
    remove_unfinished,
    saving,
    unfinished,
)
from slm_math.records.run_folder import read_run, traces_of_training
from slm_math.records.run_lock import lock_run, sign_lock, unlock_run
from slm_math.resuming import begin, checkpoint_of, is_first_rank

ROOT = Path(__file__).parents[1]
WHOLE = {"state_dict": {"w": torch.arange(4000.0)}, "optimizer_states": [], "global_step": 1}


def checkpoint(path: Path, age: int = 0, **content: Any) -> Path:
    CheckpointFiles().save_checkpoint(WHOLE | content, path)
    os.utime(path, (10_000 - age, 10_000 - age))
    return path


def configured(ckpt_path: Any = None, callbacks: Any = None, trial: bool = False) -> Namespace:
    settings = Namespace(callbacks=callbacks, fast_dev_run=trial)
    return Namespace(ckpt_path=ckpt_path, trainer=settings)


def test_checkpoints_need_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any callback, and of `save_checkpoint`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    every = ModelCheckpoint(tmp_path / "other", every_n_train_steps=1, save_last="link")
    made = trainer(
        tmp_path, callbacks=[Checkpoints(), every], limit_train_batches=2, enable_checkpointing=True
    )
    made.fit(sft(), chats())
    made.save_checkpoint(tmp_path / "by-hand.ckpt")
    files = sorted(path for path in tmp_path.rglob("*.ckpt*"))
    assert len(files) == 5
    assert [damage(path) for path in files] == [None] * 5
    assert (tmp_path / "other" / "last.ckpt").is_symlink()


def test_chosen_writer_stays(tmp_path: Path) -> None:
    chosen = AsyncCheckpointIO()
    made = trainer(
        tmp_path,
        callbacks=[Checkpoints()],
        plugins=[chosen],
        limit_train_batches=1,
        enable_checkpointing=True,
    )
    made.fit(sft(), chats())
    assert made.strategy.checkpoint_io is chosen
    assert isinstance(chosen.checkpoint_io, CheckpointFiles)


def test_full_disk_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path / "last.ckpt")
    before = path.read_bytes()

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, data: bytes) -> int:
            self.file.write(bytes(data)[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self) -> None:
            pass

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Full(file)))
    with pytest.raises(OSError, match="No space left on device on the disk of /") as caught:
        CheckpointFiles().save_checkpoint(WHOLE, path)
    assert str(path) in str(caught.value)
    assert "is kept" in str(caught.value)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_full_disk_under_an_export_is_named(tmp_path: Path) -> None:
    said = "export was not saved: No space left on device on the disk of /"
    with pytest.raises(OSError, match=said), saving(tmp_path / "export"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")


def test_unfinished_file_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    """Lightning takes the highest number after `hpc_ckpt_` in any name."""
    for name in ("hpc_ckpt_3.ckpt", "last.ckpt"):
        new = unfinished(tmp_path / name)
        assert "hpc_ckpt_" not in new.name
        assert new.suffix != ".ckpt"
        new.touch()
    remove_unfinished([tmp_path])
    assert list(tmp_path.iterdir()) == []


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def altered(path: Path) -> None:
    """Bytes inside a tensor, which torch loads without a word."""
    data = bytearray(path.read_bytes())
    data[9000:9004] = b"\x00\x01\x02\x03"
    path.write_bytes(bytes(data))


def of_weights(path: Path) -> None:
    torch.save({"state_dict": {}}, path)


DAMAGE = {torn: "its end", empty: "0 bytes", altered: "not what was written", of_weights: "weights"}


@pytest.mark.parametrize("harm", DAMAGE)
def test_damaged_newest_checkpoint_is_named_and_the_next_whole_one_used(
    harm: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = checkpoint(tmp_path / "checkpoints" / "epoch=2-step=9.ckpt", age=5)
    checkpoint(tmp_path / "checkpoints" / "epoch=1-step=6.ckpt", age=9)
    broken = checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    harm(broken)
    found = checkpoint_of("last", configured(), tmp_path, resumes=True)
    assert found == str(other)
    error = capfd.readouterr().err
    assert f"{broken} cannot be resumed from" in error or f"{broken} is damaged" in error
    assert DAMAGE[harm] in error
    assert f"resuming from {other}" in error
    with pytest.raises(ValueError, match=DAMAGE[harm]) as caught:
        checkpoint_of(str(broken), configured(), tmp_path, resumes=True)
    assert "\n" not in str(caught.value)


def test_damaged_checkpoint_is_named_where_a_trainer_loads_it(tmp_path: Path) -> None:
    torn(checkpoint(tmp_path / "one.ckpt"))
    made = trainer(tmp_path, callbacks=[Checkpoints()], enable_checkpointing=True)
    with pytest.raises(ValueError, match=r"one\.ckpt is damaged"):
        made.fit(sft(), chats(), ckpt_path=tmp_path / "one.ckpt")


class Plain:
    """An object that torch does not load as plain data."""


def test_object_in_a_whole_checkpoint_is_no_damage(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "one.ckpt")
    torch.save(WHOLE | {"own": Plain()}, path)
    reason = damage(path)
    assert reason is not None
    assert "holds an object of" in reason
    assert "Plain, which is not plain data: --weights_only false loads it" in reason
    assert damage(path, weights_only=False) is None


@pytest.mark.parametrize(("given", "said"), [("", "is empty"), (".", "is a folder")])
def test_path_that_is_no_file_is_named_as_what_it_is(given: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--ckpt_path.* {said}"):
        checkpoint_of(given, configured(), tmp_path, resumes=True)


def test_other_node_shares_what_the_first_one_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first_rank()
    monkeypatch.setenv("NODE_RANK", "1")
    assert not is_first_rank()


def test_newer_checkpoint_goes_before_an_older_last_one(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoints" / "last.ckpt", age=30)
    newer = checkpoint(tmp_path / "checkpoints" / "step=13.ckpt", age=2)
    assert checkpoint_of("last", configured(), tmp_path, resumes=True) == str(newer)


def test_only_damaged_checkpoints_are_an_error_that_names_all(tmp_path: Path) -> None:
    for name in ("last.ckpt", "epoch=0-step=3.ckpt"):
        empty(checkpoint(tmp_path / "checkpoints" / name))
    for option in ("last", "last_if_any"):
        with pytest.raises(ValueError, match=r"step=3\.ckpt is damaged.*; .*last\.ckpt is damaged"):
            checkpoint_of(option, configured(), tmp_path, resumes=True)


def test_newest_is_looked_for_wherever_callbacks_write(tmp_path: Path) -> None:
    """Also among those of Slurm's requeues; links that lead nowhere are damaged."""
    home, away = tmp_path / "checkpoints", tmp_path / "away"
    checkpoint(home / "last.ckpt", age=30)
    newest = checkpoint(away / "last-v2.ckpt", age=10)
    checkpoint(home / "epoch=0.ckpt", age=20)
    callbacks = [Namespace(class_path="x.Y", init_args=Namespace(dirpath=str(away)))]
    found = checkpoint_of("last", configured(callbacks=callbacks), tmp_path, resumes=True)
    assert found == str(newest)
    requeued = checkpoint(tmp_path / "hpc_ckpt_2.ckpt")
    assert newest_checkpoint(tmp_path, [home, away]) == (requeued, [])
    requeued.unlink()
    newest.unlink()
    newest.symlink_to("gone.ckpt")
    with pytest.raises(ValueError, match=r"last-v2\.ckpt is damaged.*No such file"):
        newest_checkpoint(tmp_path, [away])


def test_values_of_lightning_are_left_to_it(tmp_path: Path) -> None:
    for value in (None, "best", "hpc", "registry:me/one", "s3://bucket/last.ckpt"):
        assert checkpoint_of(value, configured(), tmp_path, resumes=True) == value


def test_checkpoints_stand_under_the_root_whatever_the_logger(tmp_path: Path) -> None:
    saver = Checkpoints(minutes=3)
    board = CSVLogger(tmp_path / "board")
    made = trainer(tmp_path, logger=board, callbacks=[saver], enable_checkpointing=True)
    saver.setup(made, sft(), "fit")
    assert Path(str(saver.dirpath)) == tmp_path / "checkpoints"


def test_last_if_any_starts_resumes_and_sets_a_run_without_checkpoint_aside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def chosen() -> Any:
        config = configured("last_if_any")
        begin("fit", config, tmp_path)
        unlock_run(tmp_path)
        return config.ckpt_path

    assert chosen() is None
    (tmp_path / "rollouts.jsonl").write_text("{}\n")
    (tmp_path / "manifest.json").write_text('{"started": "2026-02-03", "policy": null}')
    (tmp_path / "job.log").write_text("of the scheduler")
    with pytest.raises(ValueError, match="--ckpt_path last_if_any sets it aside"):
        begin("fit", configured(), tmp_path)
    assert chosen() is None
    assert "has no checkpoint: it is moved to" in capfd.readouterr().err
    assert traces_of_training(tmp_path) == []
    assert (tmp_path / "replaced-1" / "rollouts.jsonl").is_file()
    assert read_run(tmp_path / "replaced-1")["started"] == "2026-02-03"
    assert (tmp_path / "job.log").is_file()
    path = checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert chosen() == str(path)


def test_evaluation_needs_a_checkpoint_if_one_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        begin("validate", configured("last_if_any"), tmp_path)


HOLDS = """
import sys
from pathlib import Path
from slm_math.records.run_lock import lock_run, sign_lock
lock_run(Path(sys.argv[1])); sign_lock(Path(sys.argv[1]))
print("held", flush=True); sys.stdin.read()
"""


def test_second_process_in_a_root_is_told_who_is_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ValueError, match=rf"in use: process {other.pid} on \S+, since 20\S+Z"):
            begin("fit", configured(), tmp_path)
        begin("validate", configured(), tmp_path)  # beside a run
        begin("fit", configured(trial=True), tmp_path)
        other.kill()
    lock_run(tmp_path)  # a kill frees it
    sign_lock(tmp_path)
    lock_run(tmp_path)  # the same process goes on
    unlock_run(tmp_path)
