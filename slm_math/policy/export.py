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

from slm_math.policy.adapter_files import rewrite_config
from slm_math.policy.adapters import quiet_peft
from slm_math.policy.chat import ChatFormat
from slm_math.policy.config import Policy
from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.role_paths import BASE, write_roles_at_base
from slm_math.policy.weights import tensors


def export_policy(
    loaded: LoadedPolicy,
    chat: ChatFormat,
    folder: Path,
    merge: bool = False,
    dtype: str = "float32",
    with_base: bool = False,
) -> None:
    """Saves a policy, or only its adapters if it has some, to `folder`, which is replaced.

    Where one role speaks otherwise than another, trained or frozen, each has a subfolder with its
    adapter, or with the model that the adapter was merged into. For those that speak with the base,
    `ROLES` names them, or, where adapters are merged, their subfolder has the base.

    Args:
        loaded: the policy.
        chat: the chat format, whose tokenizer is saved too.
        folder: where to save.
        merge: whether to merge adapters into the model's weights.
        dtype: float32 or bfloat16.
        with_base: whether to save the base beside the adapters, once for all, where it exists
            nowhere else; each role has a subfolder then. The adapters name it relative to
            themselves, so that the folder can be moved.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would break the trainer's progress bar
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    tokenizer, generation = stopping(loaded.model, chat)
    for part, name in _parts(loaded, new, merge, with_base).items():
        if name is not None and not merge:
            _save_adapter(loaded, name, part, dtype)
            (part / "README.md").unlink(missing_ok=True)  # peft's, with nothing filled in
            rewrite_config(part, {"base_model_name_or_path": f"../{BASE}"} if with_base else None)
        else:
            plain = with_base or not loaded.adapters
            model = inner(loaded.model) if plain else merged(loaded.model, name)
            state = dict(tensors(loaded)) if with_base else model.state_dict()
            model.save_pretrained(part, state_dict=cast(state, dtype))
            config = copy.deepcopy(model.config)
            config.use_cache = True  # training switches it off
            config.eos_token_id = generation.eos_token_id
            config.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if loaded.sight is not None:
            loaded.sight.save(part)
        generation.save_pretrained(part)
    if not merge:
        write_roles_at_base(new, [role for role, name in loaded.frozen.items() if name is None])
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _parts(
    loaded: LoadedPolicy, folder: Path, merge: bool, with_base: bool
) -> dict[Path, str | None]:
    """folder -> the adapter that is saved there, None for the model without one."""
    if not loaded.adapters:
        return {folder: None}
    if not _differ(loaded):
        return {folder: loaded.trained_adapters[0]}
    frozen = {role: name for role, name in loaded.frozen.items() if merge or name is not None}
    of_roles: dict[str, str | None] = {**loaded.adapters, **frozen}
    base: dict[Path, str | None] = {folder / BASE: None} if with_base else {}
    return base | {folder / role: name for role, name in of_roles.items()}


def _differ(loaded: LoadedPolicy) -> bool:
    """Whether one role speaks with other adapters than another."""
    return len(loaded.trained_adapters) > 1 or bool(loaded.frozen)


def _save_adapter(loaded: LoadedPolicy, name: str, folder: Path, dtype: str) -> None:
    state, own = loaded.model.state_dict(), set(loaded.weights_of(name))
    # peft gives each adapter a subfolder, but for the one that it calls the default
    root = folder if name == "default" else folder.parent
    with quiet_peft():
        loaded.model.save_pretrained(
            root,
            state_dict=cast({n: value for n, value in state.items() if n in own}, dtype),
            selected_adapters=[name],
            save_embedding_layers=False,
        )
    if root != folder:
        (root / name).rename(folder)


def layout_of(policy: Policy, loaded: LoadedPolicy) -> dict[str, bool]:
    """How `export_policy` saves a policy so that no role is lost, and nothing that exists only
    here: an adapter is of no use without a base from scratch, which is merged with the adapter of
    all roles, or saved beside those of several.
    """
    scratch = policy.scratch is not None and bool(loaded.adapters)
    several = _differ(loaded)
    return {"merge": scratch and not several, "with_base": scratch and several}


def merged(model: Any, adapter: str | None) -> Any:
    """A copy of a model, with one of its adapters merged into its weights, or with none.

    Where the embedding and the language-model head are one tensor and only one of them is adapted,
    they become two.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(model)
    if adapter is None:
        return whole.unload()
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
