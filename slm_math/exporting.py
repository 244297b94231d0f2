"""`slm-math export`: a model folder from a checkpoint of a training run."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

UNFINISHED = ".slm-math-export-"  # in the name of a folder that is being written


def export(
    checkpoint: str,
    out: str,
    merge: bool = False,
    dtype: Literal["float32", "bfloat16"] = "float32",
    path: str | dict[str, str] | None = None,
) -> None:
    """Makes a model folder of a training checkpoint: the one that ExportHF would have written then.

    A checkpoint holds the trained weights and the settings of their policy; the model or adapter
    that the run started from must still be there.

    Args:
        checkpoint: a file that training wrote, such as runs/x/checkpoints/last.ckpt.
        out: the new folder; one that holds something is refused.
        merge: merge adapters into the model's weights, as programs without peft need it.
        dtype: float32, or bfloat16 to halve the files.
        path: where the model or adapter of the run's policy.path is, if it has moved.
    """
    from slm_math.checkpoint_files import saving
    from slm_math.modules.saved_policy import load_policy, read_checkpoint
    from slm_math.policy.export import export_policy, layout_of

    file, folder = Path(checkpoint).expanduser().absolute(), Path(out).expanduser().resolve()
    check_new(folder)
    content = read_checkpoint(file)
    policy, loaded, chat = load_policy(file, content, path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = f".{folder.name}{UNFINISHED}"
    for leftover in folder.parent.glob(glob.escape(unfinished) + "*"):  # of a killed export
        shutil.rmtree(leftover, ignore_errors=True)
    # beside its place, so that it is there whole or not at all, and nothing else is touched
    beside = Path(tempfile.mkdtemp(prefix=unfinished, dir=folder.parent))
    try:
        with saving(folder):
            layout = {"merge": True} if merge else layout_of(policy, loaded)
            export_policy(loaded, chat, beside / "model", **layout, dtype=dtype)
            os.rename(beside / "model", folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"{out} is the model of epoch {content['epoch']}, step {content['global_step']}")


def check_new(folder: Path) -> None:
    """Raises ValueError for a folder that could not be written without losing what it holds."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"--out {folder} is not empty: name a new folder, or remove it")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file, and a model is a folder")
