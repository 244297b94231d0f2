"""Exports the policy as a folder that transformers, peft and vLLM can load."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slm_math.policy.adapters import quiet_peft
from slm_math.policy.chat import ChatFormat
from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy


def export_policy(
    loaded: LoadedPolicy,
    chat: ChatFormat,
    folder: Path,
    merge: bool = False,
    dtype: str = "float32",
) -> None:
    """Saves a policy, or only its adapters if it has some, to `folder`, which is replaced.

    Several adapters, or models with one of them merged in, get a subfolder each, named after it.

    Args:
        loaded: the policy.
        chat: the chat format, whose tokenizer is saved too.
        folder: where to save.
        merge: whether to merge adapters into the model's weights.
        dtype: float32 or bfloat16.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would break the trainer's progress bar
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    names = sorted(set(loaded.adapters.values()))
    parts = [new / name if name != "default" else new for name in names] or [new]
    tokenizer, generation = stopping(loaded.model, chat)
    if names and not merge:
        state = {
            n: value for n, value in loaded.model.state_dict().items() if n in loaded.trainable
        }
        state = cast(state, dtype)
        with quiet_peft():
            loaded.model.save_pretrained(
                new, state_dict=state, selected_adapters=names, save_embedding_layers=False
            )
    for name, part in zip(names or ["default"], parts, strict=True):
        if merge or not names:
            model = merged(loaded.model, name) if names else loaded.model
            model.save_pretrained(part, state_dict=cast(model.state_dict(), dtype))
            config = copy.deepcopy(model.config)
            config.use_cache = True  # training switches it off
            config.eos_token_id = generation.eos_token_id
            config.save_pretrained(part)
        tokenizer.save_pretrained(part)
        generation.save_pretrained(part)
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def merged(model: Any, adapter: str) -> Any:
    """A copy of a model, with one of its adapters merged into its weights.

    Where the embedding and the language-model head are one tensor and only one of them is adapted,
    they become two.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(model)
    ends = [inner(whole).get_input_embeddings(), inner(whole).get_output_embeddings()]
    layers = [getattr(end, "token_adapter", end) for end in ends]
    if not any(getattr(layer, "tied_adapter", None) for layer in layers):
        for layer in layers:
            if isinstance(layer, BaseTunerLayer):
                base: Any = layer.get_base_layer()
                base.weight = torch.nn.Parameter(base.weight.clone())
    with quiet_peft():
        return whole.merge_and_unload(adapter_names=[adapter])


def cast(state: Mapping[str, Tensor], dtype: str) -> Mapping[str, Tensor]:
    """Tensors in a dtype; tied weights stay one tensor, which is saved once."""
    if dtype != "bfloat16":
        return state
    made = {value.data_ptr(): value.to(torch.bfloat16) for value in state.values()}
    return {name: made[value.data_ptr()] for name, value in state.items()}


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
