"""The trained model as a folder that transformers, peft and vLLM load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from callbacks.run_root import begin_run
from slm_math.modules.base import PolicyModule
from slm_math.policy.export import export_policy
from slm_math.policy.folders import check_export_folder


class ExportHF(L.Callback):
    """Writes `<root>/export` after every epoch: the full model, or the adapter, with its tokenizer,
    as safetensors.

    With one adapter per role, `<root>/export/<role>` holds each. The folder is replaced whole,
    never half-written.

    Args:
        folder: name of the folder under the trainer's root.
        dtype: float32, or bfloat16 to halve the files.
    """

    def __init__(self, folder: str = "export", dtype: str = "float32") -> None:
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"ExportHF writes float32 or bfloat16, not {dtype!r}")
        self.folder = folder
        self.dtype = dtype

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            check_export_folder(Path(trainer.default_root_dir), self.folder, _sources(trainer))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begin_run(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(pl_module, PolicyModule)
            assert pl_module.loaded is not None
            export_policy(
                pl_module.loaded,
                pl_module.chat,
                Path(trainer.default_root_dir) / self.folder,
                # an adapter is of no use without its base, which exists only here
                merge=pl_module.policy.scratch is not None,
                dtype=self.dtype,
            )
        trainer.strategy.barrier()


def _sources(trainer: L.Trainer) -> list[str]:
    """The models that a run reads: its policy, and those that serve other roles."""
    module: Any = trainer.lightning_module
    policy = module.policy
    paths = [] if policy.path is None else [policy.path, policy.base]
    users = [getattr(module, "other_engines", {})]
    users += [getattr(callback, "engines", None) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    for engines in users:
        if isinstance(engines, dict):
            paths += [path for e in engines.values() if (path := getattr(e, "path", None))]
    return paths
