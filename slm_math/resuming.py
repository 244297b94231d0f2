"""How `fit` begins: from which checkpoint, and in a folder that no other run is in. All of it is
known before a model loads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from slm_math.checkpoint_files import damage, newest_checkpoint, refused
from slm_math.records.run_folder import (
    LAST_IF_ANY,
    refuse_second_run,
    set_run_aside,
    traces_of_training,
)
from slm_math.records.run_lock import lock_run, sign_lock
from slm_math.stopping import say

# values of --ckpt_path that Lightning resolves
LIGHTNING = ("best", "hpc", "registry")


def begin(command: str, config: Any, root: Path) -> None:
    """Replaces the `ckpt_path` of a configuration by that of a whole checkpoint, and makes the root
    the place of this process's run.

    Raises ValueError for a root of another run, or of a process that trains now, and for a
    checkpoint that is missing or damaged.
    """
    trains = command == "fit" and not config.trainer.fast_dev_run
    first = is_first_rank()  # the other ranks share what it holds
    if trains and first:
        lock_run(root)
    given = config.get("ckpt_path")
    requeued = any(root.glob("hpc_ckpt_*.ckpt"))  # Lightning resumes from it by itself
    config["ckpt_path"] = checkpoint_of(given, config, root, resumes=command == "fit")
    if trains and first:
        if given == LAST_IF_ANY and config["ckpt_path"] is None and traces_of_training(root):
            say(f"the run in {root} has no checkpoint: it is moved to {set_run_aside(root)}")
        elif given is None and not requeued:
            refuse_second_run(root)  # also checked, for all, where the run begins
        sign_lock(root)


def checkpoint_of(given: Any, config: Any, root: Path, resumes: bool) -> Any:
    """The file that a `ckpt_path` stands for; None if there is none, and none is needed."""
    if given in ("last", LAST_IF_ANY):
        folders = [root / "checkpoints", *checkpoint_folders(config.trainer)]
        path, notes = newest_checkpoint(root, folders, config.get("weights_only"))
        if notes and is_first_rank():
            say(f"--ckpt_path {given}: {'; '.join(notes)}")
        if path is None and (given == "last" or not resumes):
            places = ", ".join(map(str, dict.fromkeys(folders)))
            starts = f"; --ckpt_path {LAST_IF_ANY} starts a run then" if resumes else ""
            raise ValueError(f"--ckpt_path {given}: there is no checkpoint in {places}{starts}")
        return None if path is None else str(path)
    if given is None or str(given).startswith(LIGHTNING) or "://" in str(given):
        return given
    path = Path(given).expanduser()
    if not given or not path.is_file():
        what = "is a folder, not a checkpoint" if path.is_dir() else "does not exist"
        raise ValueError(f"--ckpt_path: {path} {what}" if given else "--ckpt_path is empty")
    reason = damage(path, resumes, config.get("weights_only"))
    if reason is not None:
        raise ValueError(f"--ckpt_path: {refused(path, reason)}")
    return str(path)


def is_first_rank() -> bool:
    """Whether the environment of this process makes it the first one of a run."""
    other_node = os.environ.get("NODE_RANK", "0") != "0"  # Lightning looks at it later
    return not other_node and getattr(rank_zero_only, "rank", 0) in (0, None)


def checkpoint_folders(trainer: Any) -> Iterator[Path]:
    """The folders that the callbacks of a configuration write checkpoints to, other than the root's
    own.
    """
    configured = trainer.get("callbacks") or []
    for callback in configured if isinstance(configured, list) else [configured]:
        folder = (callback.get("init_args") or {}).get("dirpath")
        if folder is not None and "://" not in str(folder):
            yield Path(folder).expanduser().absolute()
