"""The policy's weights for engines that hold a copy: named tensors, and adapters as folders."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slm_math.policy.adapter_files import check_vllm_applies, rewrite_config
from slm_math.policy.adapters import adapter_state
from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.sharding import gathered
from slm_math.policy.sight import sight_of


def tensors(loaded: LoadedPolicy, trained: bool | None = None) -> Iterable[tuple[str, Tensor]]:
    """The model's weights without adapters, named as in a checkpoint; tied weights appear once.

    Of a policy without adapters, only those that are `trained`, or only the others.
    """
    model: nn.Module = inner(loaded.model)
    learning = set(loaded.trainable)
    for name, parameter in model.named_parameters():
        if "lora_" not in name and trained in (None, name in learning):
            yield name.replace(".base_layer.", "."), parameter.detach()


def save_config(model: Any, folder: Path) -> None:
    """Saves the config of a model, and the image processor of one with eyes, which makes `folder` a
    model folder without weights.
    """
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    sight = sight_of(model)
    if sight is not None:
        sight.save(folder)


def save_base(loaded: LoadedPolicy, folder: Path) -> None:
    """Saves the weights without adapters into a model folder of this rank; where ranks have slices
    of them, all must do so.
    """
    from safetensors.torch import save_file

    save_file(gathered(tensors(loaded), keep=True), folder / "model.safetensors")


def save_adapter(loaded: LoadedPolicy, name: str, folder: Path) -> None:
    """Saves an adapter for vLLM.

    The folder is renamed into place, so that no server reads an incomplete adapter. Raises
    ValueError for an adapter that vLLM would not apply as the policy does.
    """
    from safetensors.torch import save_file

    config = copy.deepcopy(loaded.model.peft_config[name])
    check_vllm_applies(config.to_dict())
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    state = adapter_state(loaded.model, name)
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in state.items()},
        new / "adapter_model.safetensors",
    )
    config.inference_mode = True
    config.save_pretrained(new)
    rewrite_config(new)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def training_bytes(parameters: Iterable[nn.Parameter], optimizers: Iterable[Any]) -> int:
    """Bytes of the gradients and optimizer states that exist so far."""
    held = [p.grad for p in parameters if p.grad is not None]
    for optimizer in optimizers:
        for state in optimizer.state.values():
            held += [value for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)
