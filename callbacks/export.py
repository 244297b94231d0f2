"""The trained model as a folder that transformers, peft and vLLM load."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L

from slm_math.callbacks.run_root import begin_run
from slm_math.checkpoint_files import saving
from slm_math.exports.card import Origin, write_card
from slm_math.exports.certificate import begun, certified, summary
from slm_math.modules.base import PolicyModule
from slm_math.policy.adapter_files import base_in
from slm_math.policy.export import export_policy, layout_of
from slm_math.policy.folders import check_export_folder
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.role_paths import paths_of


class ExportHF(L.Callback):
    """Writes `<root>/export` after every epoch: the full model, or the adapter, with its tokenizer,
    as safetensors. It does so before validation and before other callbacks, wherever it stands
    among them: an evaluation that fails leaves the export of its epoch behind.

    With several roles, trained or frozen, `<root>/export/<role>` holds the adapter of each, and
    `<root>/export/roles.json` names those that are frozen at the base. `<root>/export/base` then
    holds a base from scratch, which exists nowhere else. The folder is replaced whole, never
    half-written.

    `README.md` there is a model card. When training has ended, a fresh process loads the folder
    with plain transformers and peft, and `certificate.json` there says how what it makes of a few
    prompts compares with the policy; a warning tells of one that failed.

    Args:
        folder: name of the folder under the trainer's root.
        dtype: float32, or bfloat16 to halve the files; always bfloat16 with trainer.precision
            bf16-true, whose weights are.
        check: write the certificate. It takes 4 bytes of the CPU's memory for each weight.
    """

    def __init__(self, folder: str = "export", dtype: str = "float32", check: bool = True) -> None:
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"ExportHF writes float32 or bfloat16, not {dtype!r}")
        self.folder = folder
        self.dtype = dtype
        self.check = check
        self._written: tuple[int, int] | None = None  # epoch and step of the last export

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        trainer.callbacks = [self, *others]  # type: ignore[attr-defined]
        if stage == "fit":
            check_export_folder(Path(trainer.default_root_dir), self.folder, _sources(trainer))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        begin_run(trainer, pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.is_last_batch:
            self._export(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._export(trainer, pl_module)  # of an epoch that ends early, too

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        current = self._written is not None and self._written[1] == trainer.global_step
        assert isinstance(pl_module, PolicyModule)
        loaded = pl_module.whole() if current and self.check else None
        if current and trainer.is_global_zero:
            certificate = None if loaded is None else self._certify(trainer, pl_module, loaded)
            self._describe(trainer, pl_module, certificate)  # the last evaluation is done by now
        trainer.strategy.barrier()

    def _certify(
        self, trainer: L.Trainer, module: PolicyModule, loaded: LoadedPolicy
    ) -> dict[str, Any] | None:
        """The certificate, None if there was no memory or disk for one. The run has ended well,
        whatever is found.
        """
        folder, certificate = Path(trainer.default_root_dir) / self.folder, None
        try:
            certificate = begun(
                loaded,
                module.chat,
                folder,
                dtype=self.dtype,
                merged=layout_of(module.policy, loaded)["merge"],
                quantized=module.policy.quantize != "none",
            )
            print(f"{folder}: a fresh process loads it and compares it with the policy", flush=True)
            certificate = certified(folder, certificate)
            said = summary(certificate)
        except Exception as error:
            certificate = None
            said = f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if said.startswith("failed"):
            warnings.warn(
                f"the certificate of {folder} {said}: do not use this export before you know why",
                stacklevel=2,
            )
        else:
            print(f"{folder}: certificate {said}", flush=True)
        return certificate

    def _describe(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        certificate: dict[str, Any] | None = None,
    ) -> None:
        """Writes the model card."""
        assert isinstance(module, PolicyModule)
        assert self._written is not None
        root = Path(trainer.default_root_dir)
        epoch, step = self._written
        origin = Origin(module.policy, (root,), run=module.run, epoch=epoch, step=step)
        try:
            write_card(root / self.folder, origin, certificate)
        except (OSError, ValueError) as error:
            warnings.warn(f"{root / self.folder} has no model card: {error}", stacklevel=2)

    def _export(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        moment = trainer.current_epoch, trainer.global_step
        if self._written == moment:
            return
        assert isinstance(pl_module, PolicyModule)
        loaded = pl_module.whole()
        if trainer.is_global_zero:
            assert loaded is not None
            folder = Path(trainer.default_root_dir) / self.folder
            layout = layout_of(pl_module.policy, loaded)
            with saving(folder):
                export_policy(loaded, pl_module.chat, folder, **layout, dtype=self.dtype)
        self._written = moment
        if trainer.is_global_zero:
            self._describe(trainer, pl_module)
        trainer.strategy.barrier()


def _sources(trainer: L.Trainer) -> list[str]:
    """The models that a run reads: its policy, its teacher, and those that serve other roles."""
    module: Any = trainer.lightning_module
    policy = module.policy
    paths = [*paths_of(policy.path), *(path for path in module.frozen.values() if path != "base")]
    paths += [] if policy.path is None else [policy.base]
    users = [getattr(module, "other_engines", {})]
    users += [getattr(callback, "engines", None) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    for engines in users:
        if isinstance(engines, dict):
            paths += [p for e in engines.values() for p in paths_of(getattr(e, "path", None))]
    teaching = getattr(module, "teaching", None)
    for path in teaching.teacher.paths(teaching.roles).values() if teaching else ():
        paths += [path, base_in(path)]
    return paths
