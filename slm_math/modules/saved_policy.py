"""The policy of a checkpoint: its settings are in the file, so that a model can be made of the file
and of what the run started from, without the run's configuration.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slm_math.checkpoint_files import NOT_PLAIN, damage
from slm_math.modules.identity import check_identity, check_trained, policy_identity
from slm_math.policy.adapters import adapter_name
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.lora import Lora
from slm_math.policy.masters import PRECISION, to_bfloat16
from slm_math.policy.scratch import Scratch

_EXAMPLE = "a file that training wrote, such as runs/sft-lora/checkpoints/last.ckpt"


def policy_settings(policy: Policy, frozen: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a policy and of its roles that are not trained, as plain data, with the
    folder that relative paths start from.
    """
    return {"settings": asdict(policy), "frozen": dict(frozen), "directory": os.getcwd()}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, as plain data: nothing in a file is run.

    Raises ValueError for a file that is missing, damaged, or does not say of which policy it is.
    """
    if path.is_dir():
        inside = sorted([*path.glob("*.ckpt"), *path.glob("checkpoints/*.ckpt")])
        some = f"one of its checkpoints, such as {inside[0]}" if inside else _EXAMPLE
        raise ValueError(f"{path} is a folder: name {some}")
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    reason = damage(path, resumes=False)
    if reason is not None and path.suffix != ".ckpt":
        raise ValueError(f"{path} is no checkpoint: name {_EXAMPLE}")
    if reason is not None:
        raise ValueError(f"{path}: {reason.removesuffix(NOT_PLAIN)}")
    checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(checkpoint.get("policy"), dict) or "train_roles" not in checkpoint:
        raise ValueError(
            f"{path} does not say of which policy it is: a version of slm-math before this one "
            "wrote it, or another program (fit --ckpt_path resumes older ones, and its next "
            "checkpoint says so)"
        )
    return checkpoint


def load_policy(
    path: Path, checkpoint: Mapping[str, Any], moved_to: Any = None
) -> tuple[Policy, LoadedPolicy, ChatFormat, Path]:
    """The policy of a checkpoint with its trained weights: in fp32, or, of a run with weights in
    bfloat16, as that computed with them; and the working directory in which its paths are right.

    Raises ValueError if what the run started from is not there any more, or has changed.

    Args:
        path: of the checkpoint, for messages.
        checkpoint: its content.
        moved_to: where the run's policy.path is now; by default where it was, seen from here or
            from where the run was started.
    """
    saved = checkpoint["policy"]
    policy, place = _policy(path, saved, moved_to)
    with contextlib.chdir(place):
        try:
            loaded = policy.load(checkpoint["train_roles"], saved["frozen"])
            chat = policy.chat()
            now = policy_identity(policy, loaded, chat, frozen=saved["frozen"])
            check_identity(checkpoint.get("identity"), now, "export")
            load_weights(loaded, checkpoint["state_dict"])
            if checkpoint.get("precision") == PRECISION:
                to_bfloat16(loaded.model)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return policy, loaded, chat, place


def _policy(path: Path, saved: Mapping[str, Any], moved_to: Any) -> tuple[Policy, Path]:
    """The policy of its settings, and the working directory in which its paths are right."""
    settings = dict(saved["settings"])
    unknown = sorted(settings.keys() - {field.name for field in fields(Policy)})
    if unknown:
        raise ValueError(
            f"{path} is of a newer version of slm-math: this one knows no policy.{unknown[0]}"
        )
    settings["quantize"] = "none"  # adapters over 4 bits fit the whole weights, too
    settings["compile"] = False  # nothing is trained
    for name, kind in (("scratch", Scratch), ("lora", Lora)):
        settings[name] = None if settings[name] is None else kind(**settings[name])
    if moved_to is not None:
        if settings["path"] is None:
            raise ValueError(f"{path} is of a model from scratch: it has no path that could move")
        settings["path"] = moved_to
    places = [Path.cwd(), Path(saved["directory"])]
    problem: ValueError | None = None
    for place in places if moved_to is None else places[:1]:
        with contextlib.suppress(OSError), contextlib.chdir(place):
            try:
                return Policy(**settings), place
            except ValueError as error:
                problem = problem or error
    hint = "" if moved_to is not None else "; --path names where it is now"
    raise ValueError(
        f"{path} cannot be exported without what its run started from: {problem}{hint}"
    )


def present_names(saved: Mapping[str, Tensor], loaded: LoadedPolicy) -> dict[str, Tensor]:
    """The trained weights of a checkpoint; earlier versions called an adapter as its role."""
    former = {
        f"model.{name}".replace(f".{adapter}.", f".{role}."): f"model.{name}"
        for role, adapter in loaded.adapters.items()
        if adapter == adapter_name(role)
        for name in loaded.weights_of(adapter)
    }
    return {former.get(name, name): value for name, value in saved.items()}


@torch.no_grad()
def load_weights(loaded: LoadedPolicy, saved: Mapping[str, Tensor]) -> None:
    """Puts the trained weights of a checkpoint into a policy."""
    saved = present_names(saved, loaded)
    check_trained(saved, loaded)
    named = dict(loaded.model.named_parameters())
    for name in loaded.trainable:
        named[name].copy_(saved[f"model.{name}"])
