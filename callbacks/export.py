"""The trained model as a folder that transformers, peft and vLLM load."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import lightning as L

from slm_math.modules.base import PolicyModule


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

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(pl_module, PolicyModule)
            export(pl_module, Path(trainer.default_root_dir) / self.folder, self.dtype)
        trainer.strategy.barrier()


def export(module: PolicyModule, folder: Path, dtype: str = "float32") -> None:
    """Saves the policy of a module to `folder`."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of shards: it tears ours
    loaded = module.loaded
    assert loaded is not None
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    names = sorted(set(loaded.adapters.values()))
    model = loaded.model
    # an adapter is of no use without its base, which exists only here
    if names and module.policy.scratch is not None:
        model, names = copy.deepcopy(model).merge_and_unload(), []
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not names or name in loaded.trainable
    }
    if dtype == "bfloat16":  # weights that are tied stay one tensor, which is saved once
        cast = {value.data_ptr(): value.to(torch.bfloat16) for value in state.values()}
        state = {name: cast[value.data_ptr()] for name, value in state.items()}
    tokenizer, generation = stopping(module)
    if names:
        model.save_pretrained(new, state_dict=state, selected_adapters=names)
    else:
        model.save_pretrained(new, state_dict=state)
        config = copy.deepcopy(model.config)
        config.use_cache = True  # off during training only
        config.eos_token_id = generation.eos_token_id
        config.save_pretrained(new)
    for part in [new, *(new / name for name in names if name != "default")]:
        tokenizer.save_pretrained(part)
        generation.save_pretrained(part)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def stopping(module: PolicyModule) -> tuple[Any, Any]:
    """Tokenizer and generation config that stop where the policy was trained to stop: at the end of
    a turn.

    A base model's own end-of-sequence token is often another one than its chat template's.
    """
    tokenizer, generation = (
        copy.deepcopy(module.chat.tokenizer),
        copy.deepcopy(module.model.generation_config),
    )
    if tokenizer.eos_token != module.chat.end_text:
        tokenizer.eos_token = module.chat.end_text
    generation.eos_token_id = sorted(module.ends)
    return tokenizer, generation
