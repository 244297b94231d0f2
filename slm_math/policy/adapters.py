"""Loads adapters from their files into a model, for training and for evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from slm_math.policy.adapter_files import MERGE
from slm_math.policy.complete import check_finite, check_missing
from slm_math.policy.folders import local_folder

PREFIX = "base_model.model."  # of the base's weights in the files of an adapter
FROZEN, COPY = "@frozen", "@reference"  # behind the name of a role's adapter
TEACHER = "@@teacher"  # the name of an adapter that teaches


def adapter_name(role: str) -> str:
    """The name in a model of the adapter of a role.

    peft finds the weights of an adapter by its name, as a part of theirs, and takes it out. Neither
    a role nor a module of a model has an @ in its name.
    """
    return f"@{role}"


def load_adapters(
    model: Any, path: str, names: Sequence[str] = ("default",), trainable: bool = False
) -> Any:
    """The model, which may have other adapters, with the adapter of a folder, loaded once for each
    name.

    Raises ValueError for an adapter that lacks weights, holds others than it trains, or some that
    are not finite.
    """
    from peft import PeftModel
    from peft.utils import load_peft_weights

    folder = str(local_folder(path) or path)
    renamed = getattr(model, "_checkpoint_conversion_mapping", {})
    saved = load_peft_weights(folder, device="cpu", key_mapping=renamed)
    check_finite(path, saved.items(), "adapter")
    equal = _equal_to_base(path, model, saved)
    options: dict[str, Any] = {"is_trainable": trainable, "torch_device": "cpu"}
    with quiet_peft():
        for name in names:
            if isinstance(model, PeftModel):
                model.load_adapter(folder, name, **options)
            else:
                model = PeftModel.from_pretrained(model, folder, adapter_name=name, **options)
    needed = adapter_state(model, names[0]).keys()
    check_missing(path, needed - saved.keys(), "adapter")
    others = sorted(saved.keys() - needed - equal)
    if others:
        raise ValueError(
            f"adapter {path} holds {len(others)} weights that are not among those that its config "
            f"trains, the first {others[0]}, and training would lose them: {MERGE}"
        )
    model.set_adapter(names[0])
    return model


@contextmanager
def active(model: Any, name: str | None) -> Iterator[None]:
    """The model with one of its adapters active, or, if `name` is None, without any."""
    if name is None:
        with model.disable_adapter():
            yield
        return
    before = model.active_adapter
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(before)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without peft's warnings of many lines about what is handled or checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"peft\.")
        # of transformers, about a property that peft reads
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        yield


def _equal_to_base(path: str, model: Any, saved: Mapping[str, Tensor]) -> set[str]:
    """The keys of saved weights that are those of the base; peft saves embeddings that way.

    Raises ValueError if the adapter was made on a base of another shape, which peft would name
    in an error of many lines.
    """
    weights = model.state_dict().items()
    base = {key.removeprefix(PREFIX).replace(".base_layer.", "."): own for key, own in weights}
    equal: set[str] = set()
    for key, weight in saved.items():
        own = base.get(key.removeprefix(PREFIX).replace(".base_layer.", "."))
        if own is None:
            continue
        if own.shape != weight.shape:
            raise ValueError(
                f"adapter {path} was made on another base: {key} is {tuple(weight.shape)} in its "
                f"files and {tuple(own.shape)} in the base (embeddings that were resized for added "
                f"tokens, perhaps): {MERGE}"
            )
        if torch.equal(own.to("cpu", weight.dtype), weight):
            equal.add(key)
    return equal


def adapter_state(model: Any, name: str) -> Mapping[str, Tensor]:
    """The weights of an adapter, with the keys of its files."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(
        model, model.state_dict(), adapter_name=name, save_embedding_layers=False
    )


def adapter_weights(model: Any, name: str) -> tuple[str, ...]:
    """The names of the parameters that are trained with an adapter, which becomes active; biases of
    the base among them, if the adapter trains some.
    """
    trained: set[str] = set()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad and key.endswith(".bias") and "lora_" not in key:
            trained.add(key)
        if parameter.is_floating_point():
            parameter.requires_grad_(False)
    if model.peft_config[name].bias == "none":
        trained.clear()
    model.set_adapter(name)
    return tuple(n for n, p in model.named_parameters() if p.requires_grad or n in trained)
