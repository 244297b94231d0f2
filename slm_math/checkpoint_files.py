"""Files of checkpoints: written completely or not at all, checked before they are loaded."""

from __future__ import annotations

import errno
import glob
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO

UNFINISHED = ".ckpt.new"
DAMAGED = "damaged: "  # begins the reasons that another copy of the file would not have
NOT_PLAIN = ": --weights_only false loads it"  # ends the reason for one that holds objects
FULL = (errno.ENOSPC, errno.EDQUOT)


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that a kill, a full disk or a full
    TMPDIR leaves the file before it. A trainer of a `PolicyModule` uses it for every checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        new = unfinished(target)
        try:
            with saving(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                with new.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                new.replace(target)
                _sync_folder(target.parent)
            _remove_slices(target, but=checkpoint.get("slices", ()))
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        try:
            checkpoint = super().load_checkpoint(path, map_location, weights_only)
            return assembled(checkpoint, Path(path)) if "slices" in checkpoint else checkpoint
        except (EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
            local = Path(path) if _is_local_file_protocol(path) else None
            reason = damage(local, resumes=False) if local is not None and local.exists() else None
            if local is None or reason is None:
                raise
            raise ValueError(refused(local, reason)) from error

    def remove_checkpoint(self, path: str | Path) -> None:
        super().remove_checkpoint(path)
        if _is_local_file_protocol(path):
            _remove_slices(Path(path))


def slice_names(path: Path, save: str, ranks: int) -> list[str]:
    """The names of the files beside a checkpoint with the slices of all ranks but the first; `save`
    tells them from those of another time, so that a kill never mixes them.
    """
    return [f"{path.name}.{save}.{rank}-of-{ranks}" for rank in range(1, ranks)]


def _remove_slices(path: Path, but: Iterable[str] = ()) -> None:
    kept = set(but)
    for file in path.parent.glob(f"{glob.escape(path.name)}.*-of-*"):
        if file.name not in kept:
            file.unlink(missing_ok=True)


def _slices(checkpoint: Mapping[str, Any], path: Path) -> list[Path]:
    return [path.with_name(Path(name).name) for name in checkpoint.get("slices", ())]


def assembled(checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """The content of a checkpoint at `path` with the slices of all ranks put together."""
    options: dict[str, Any] = {"map_location": "cpu", "mmap": True, "weights_only": True}
    parts = [torch.load(file, **options) for file in _slices(checkpoint, path)]
    if parts:
        _join(checkpoint, parts)
    return {name: value for name, value in checkpoint.items() if name != "slices"}


def _join(content: Any, parts: Sequence[Any]) -> None:
    """Appends the slices of other ranks to those in dictionaries and lists of dictionaries."""
    keys = parts[0].keys() if isinstance(parts[0], dict) else range(len(parts[0]))
    for key in keys:
        others = [part[key] for part in parts]
        if isinstance(content[key], torch.Tensor):
            content[key] = torch.cat([content[key], *others])
        else:
            _join(content[key], others)


def use_checkpoint_files(trainer: L.Trainer) -> None:
    """Lets a trainer write checkpoints with `CheckpointFiles`, unless the user chose otherwise."""
    chosen = trainer.strategy._checkpoint_io
    if chosen is None or type(chosen) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CheckpointFiles()
    elif isinstance(chosen, _WrappingCheckpointIO):
        chosen.checkpoint_io = CheckpointFiles()  # keeps a base that the user chose


def unfinished(path: Path) -> Path:
    """The name of a checkpoint while it is written. Lightning takes all names with `hpc_ckpt_` for
    checkpoints.
    """
    name = path.name.replace("hpc_ckpt_", "hpc_").removesuffix(".ckpt")
    return path.with_name(name + UNFINISHED)


def remove_unfinished(folders: Iterable[Path]) -> None:
    """Removes what a killed process left."""
    for folder in folders:
        for path in folder.glob("*" + UNFINISHED):
            path.unlink(missing_ok=True)


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Says of an error of the file system what was not saved, and which disk is full."""
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise OSError(_not_saved(path, cause)) from error


def _cause(error: BaseException | None) -> OSError | None:
    """The error of the file system behind an error; torch and safetensors raise their own."""
    while error is not None and not isinstance(error, OSError):
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        error = error.__context__
    return error


def _not_saved(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in FULL:
        disk = next(p for p in path.absolute().parents if p.is_mount())
        reason += f" on the disk of {disk}"
    before = "; the one that was there is kept" if path.exists() else ""
    return f"{path} was not saved: {reason}{before}"


def _sync_folder(folder: Path) -> None:
    """Makes a rename last."""
    with suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# choosing one


def newest_checkpoint(
    root: Path, folders: Iterable[Path], weights_only: bool | None = None
) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run, and what to say about damaged or missing ones. None if
    there is no checkpoint.

    Raises ValueError if there are checkpoints, and none of them can be resumed from.
    """
    found = [path for folder in dict.fromkeys(folders) for path in folder.glob("*.ckpt")]
    found += root.glob("hpc_ckpt_*.ckpt")  # of Slurm's requeues
    notes: list[str] = []
    for path in sorted(found, key=_age, reverse=True):
        reason = damage(path, weights_only=weights_only)
        if reason is None:
            if notes or not path.name.startswith(("last", "hpc_ckpt_")):
                notes.append(f"resuming from {path}")
            return path, notes
        notes.append(refused(path, reason))
    if notes:
        raise ValueError("; ".join(notes))
    return None, []


def _age(path: Path) -> tuple[int, bool]:
    """When a file was written; of two at one time, that which is called the last one counts."""
    written = path.stat().st_mtime_ns if path.exists() else 0
    return written, path.name.startswith("last")


def refused(path: Path, reason: str) -> str:
    if reason.startswith(DAMAGED):
        return f"{path} is damaged ({reason.removeprefix(DAMAGED)})"
    return f"{path} cannot be resumed from ({reason})"


def damage(path: Path, resumes: bool = True, weights_only: bool | None = None) -> str | None:
    """Why a file is not a whole checkpoint; None if it is one. It is read once, and not kept.

    `weights_only` is Lightning's option: False also loads objects that are no plain data, which can
    run code, so only for files that one trusts.
    """
    try:
        if not path.stat().st_size:
            return f"{DAMAGED}0 bytes"
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                begins = file.read(2) == b"PK"
            what = "its end is missing" if begins else "it does not begin as a checkpoint does"
            return DAMAGED + what
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
        if part is not None:
            return f"{DAMAGED}{part} is not what was written"
        plain = weights_only is not False
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=plain)
    except pickle.UnpicklingError as error:
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        if kind is None:
            return f"{DAMAGED}{_first_line(error)}"
        what = f"it holds an object of {kind[1]}, which is not plain data"
        return what + NOT_PLAIN
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        return DAMAGED + (getattr(error, "strerror", None) or _first_line(error))
    if not isinstance(content, dict) or "state_dict" not in content:
        return "it has no state_dict"
    if resumes and "optimizer_states" not in content:
        return "it has weights only"
    lost = [file.name for file in _slices(content, path) if not _is_whole(file)]
    return f"{DAMAGED}its slice {lost[0]} is not there, or not whole" if lost else None


def _is_whole(file: Path) -> bool:
    """Whether a file of tensors is there, and all of its parts are what was written."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
