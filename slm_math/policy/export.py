"""Exports the policy as a folder that transformers, peft and vLLM can load."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from slm_math.policy.chat import ChatFormat
from slm_math.policy.loaded import LoadedPolicy


def export_policy(
    loaded: LoadedPolicy,
    chat: ChatFormat,
    folder: Path,
    merge: bool = False,
    dtype: str = "float32",
) -> None:
    """Saves a policy, or only its adapters if it has some, to `folder`, which is replaced.

    Args:
        loaded: the policy.
        chat: the chat format, whose tokenizer is saved too.
        folder: where to save; several adapters get one subfolder each.
        merge: whether to merge adapters into the model's weights.
        dtype: float32 or bfloat16.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would break the trainer's progress bar
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    names = sorted(set(loaded.adapters.values()))
    model = loaded.model
    tokenizer, generation = stopping(model, chat)
    if names and merge:
        model, names = copy.deepcopy(model).merge_and_unload(), []
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not names or name in loaded.trainable
    }
    if dtype == "bfloat16":  # tied weights stay one tensor, which is saved once
        cast = {value.data_ptr(): value.to(torch.bfloat16) for value in state.values()}
        state = {name: cast[value.data_ptr()] for name, value in state.items()}
    if names:
        model.save_pretrained(new, state_dict=state, selected_adapters=names)
    else:
        model.save_pretrained(new, state_dict=state)
        config = copy.deepcopy(model.config)
        config.use_cache = True  # training switches it off
        config.eos_token_id = generation.eos_token_id
        config.save_pretrained(new)
    for part in [new, *(new / name for name in names if name != "default")]:
        tokenizer.save_pretrained(part)
        generation.save_pretrained(part)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def stopping(model: Any, chat: ChatFormat) -> tuple[Any, Any]:
    """Copies of tokenizer and generation config that stop at the end of a turn, as in training.

    The end-of-sequence token of a base model often differs from the end-of-turn token of its chat
    template.
    """
    tokenizer, generation = copy.deepcopy((chat.tokenizer, model.generation_config))
    if tokenizer.eos_token != chat.end_text:
        tokenizer.eos_token = chat.end_text
    ends = chat.ends(model.config, getattr(model, "generation_config", None))
    generation.eos_token_id = sorted(ends)
    return tokenizer, generation
