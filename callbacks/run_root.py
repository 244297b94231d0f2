"""The identity of a training run: one per root, in its manifest, checkpoints and evaluations."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path
from typing import Any
from weakref import WeakSet

import lightning as L
import torch

from slm_math.config_files import load
from slm_math.data.batches import SourceData
from slm_math.modules.base import PolicyModule
from slm_math.policy.role_paths import files_of_roles
from slm_math.records.environment import environment
from slm_math.records.files import control, write_json
from slm_math.records.redaction import command_without_secrets
from slm_math.records.run_folder import read_run, refuse_second_run, traces_of_training

_begun: WeakSet[L.Trainer] = WeakSet()


def begin_run(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Makes the trainer's root that of this run, before its first step; every callback that writes
    into the root calls this from `on_fit_start`.

    A run that goes on from its checkpoint keeps its identity. The manifest has command, start,
    weights, engine and environment; the configuration is in the logs. Raises ValueError for a root
    that holds another run.
    """
    if not isinstance(module, PolicyModule) or (trainer in _begun and module.run is not None):
        return
    root = Path(trainer.default_root_dir)
    old, before = read_run(root), traces_of_training(root)
    same = module.run is None or old.get("run") in (None, module.run)
    goes_on = trainer.ckpt_path is not None and same
    if before and not goes_on:
        refuse_second_run(root)
    kept = goes_on and (before or old.get("run") == module.run)
    module.run = trainer.strategy.broadcast(old.get("run") if kept else secrets.token_hex(4))
    _begun.add(trainer)
    if trainer.is_global_zero:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        times: dict[str, Any] = {"started": now}
        if kept:
            times = {"started": old.get("started", now), "resumed": [*old.get("resumed", []), now]}
        write_json(root / "manifest.json", {"run": module.run} | times | _about(module, trainer))
    trainer.strategy.barrier()  # no rank writes before all have looked
    _check_shared(trainer, module.run, root)


def _check_shared(trainer: L.Trainer, run: str, root: Path) -> None:
    """Raises ValueError, on all ranks, if one of them does not see what the first one wrote.

    Ranks write records, checkpoints and adapters for each other into the root.
    """
    if trainer.world_size == 1:
        return
    sees = read_run(root).get("run") == run
    [blind] = most(trainer, [0 if sees else trainer.global_rank + 1])
    if blind:
        raise ValueError(
            f"rank {blind - 1} does not see what the first rank wrote into {root}: name a "
            "--trainer.default_root_dir on a file system that all nodes share"
        )


def most(trainer: L.Trainer, values: list[Any]) -> list[int]:
    """The largest of each value over all ranks."""
    tensor = torch.tensor([int(value) for value in values], device=trainer.strategy.root_device)
    return trainer.strategy.reduce(tensor, reduce_op="max").tolist()


def _shares(trainer: L.Trainer) -> dict[str, Any]:
    data = trainer.datamodule  # type: ignore[attr-defined]
    return data.shares() if isinstance(data, SourceData) else {}


def _about(module: PolicyModule, trainer: L.Trainer) -> dict[str, Any]:
    path = module.policy.path
    return {
        "command": command_without_secrets(sys.argv[1:], load),
        "policy": path,
        "weights": None if path is None else files_of_roles(path)["weights"],
        **({"frozen": module.frozen} if module.frozen else {}),
        **module.policy.template_identity,
        "engine": module.serving.describe(trainer),
        **({"control": arm} if (arm := control.get()) else {}),
        **({"shares": shares} if (shares := _shares(trainer)) else {}),
        "environment": environment(),
    }
