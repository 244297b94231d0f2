"""Which modules of a model get a LoRA adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from warnings import warn

from torch import nn

from slm_math.policy.sight import eyes_of, named_eyes

ATTENTION = "attention"
ALL_LINEAR = "all-linear"
# layers that peft adapts in no model of these types, whose kernels use their weights directly
MAMBA = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
NOT_IN_MAMBA = ("out_proj", "conv1d")


def names_of(targets: str | Sequence[str]) -> list[str]:
    """One name, or several, as a list."""
    return [targets] if isinstance(targets, str) else list(targets)


def target_names(
    model: Any, targets: str | Sequence[str], with_eyes: bool = False
) -> str | list[str]:
    """What peft takes for `targets`: all-linear, or names that match at least one module each.

    Args:
        model: the model without adapters.
        targets: "attention" (the linear layers of attention), "all-linear" (all linear layers but
            the language-model head), or names of modules, or the ends of their names.
        with_eyes: whether layers that make features of images are among them. They often have the
            same names as those of the decoder.

    Raises:
        ValueError: if a name matches nothing, or a module that can have no adapter.
    """
    names = names_of(targets)
    if names not in ([ATTENTION], [ALL_LINEAR]):
        for name in names:
            _check(model, name)
        return names if with_eyes else _without_eyes(model, names)
    chosen = _linear_layers(model, names[0], with_eyes)
    if not chosen:
        raise ValueError(
            f"policy.lora.targets {names[0]} matches no layer of {_title(model)}; its linear "
            f"layers are {_listed(_linear_layers(model, ALL_LINEAR))}"
        )
    if names == [ALL_LINEAR] and chosen == [name for name, _ in _linear(model)]:
        return ALL_LINEAR
    return _short(model, chosen)


def _without_eyes(model: nn.Module, names: list[str]) -> list[str]:
    """The names, or longer ones where a name is also that of a layer that makes features."""
    found = [n for n, _ in model.named_modules() if any(_matches(n, name) for name in names)]
    seeing = {
        f"{prefix}.{name}" for prefix, eyes in named_eyes(model) for name, _ in eyes.named_modules()
    }
    chosen = [name for name in found if name not in seeing]
    if len(chosen) == len(found):
        return names
    if not chosen:
        raise ValueError(
            f"policy.lora.targets: {', '.join(names)} make features of images, which are not "
            "trained: set policy.vision: trained"
        )
    return _short(model, chosen)


def _linear_layers(model: Any, which: str, with_eyes: bool = False) -> list[str]:
    """The names of the decoder's linear layers, quantized ones included: without the head, and
    without a vision tower, unless `with_eyes`.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    parts = [decoder, *eyes_of(model)] if with_eyes else [decoder]
    inside = {id(module) for part in parts for module in part.modules()}
    left_out = NOT_IN_MAMBA if getattr(model.config, "model_type", "") in MAMBA else ()
    return [
        name
        for name, module in _linear(model)
        if id(module) in inside
        and name.rpartition(".")[2] not in left_out
        and (which == ALL_LINEAR or _in_attention(model, name))
    ]


def _linear(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """All linear layers without the language-model head, by name."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, module in model.named_modules():
        if _is_linear(module) and module is not head:
            yield name, module


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))


def _in_attention(model: nn.Module, name: str) -> bool:
    parents = name.split(".")[:-1]
    classes = (
        type(model.get_submodule(".".join(parents[:n]))).__name__
        for n in range(1, len(parents) + 1)
    )
    return any("Attention" in each or "Attn" in each for each in classes)


def _short(model: nn.Module, chosen: Sequence[str]) -> list[str]:
    """The shortest ends of names that match the chosen modules and no others."""
    others = {name for name, _ in model.named_modules()} - set(chosen)
    short: list[str] = []
    for name in chosen:
        if any(_matches(name, end) for end in short):
            continue
        parts = name.split(".")
        ends = (".".join(parts[-n:]) for n in range(1, len(parts) + 1))
        short.append(next((end for end in ends if not any(_matches(o, end) for o in others)), name))
    return short


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _check(model: nn.Module, target: str) -> None:
    found = [module for name, module in model.named_modules() if _matches(name, target)]
    wrong = [m for m in found if not (_is_linear(m) or isinstance(m, nn.Embedding))]
    if found and not wrong:
        return
    fused = [name for name in _experts(model) if _matches(name, target)]
    if wrong:
        reason = f"is a {type(wrong[0]).__name__}, not a linear layer or an embedding"
    elif fused:
        reason = f"is one weight of all experts ({fused[0]}), which only {ALL_LINEAR} covers"
    else:
        reason = f"matches no layer of {_title(model)}"
    raise ValueError(
        f"policy.lora.targets: {target!r} {reason}; its linear layers are "
        f"{_listed(_linear_layers(model, ALL_LINEAR))} (or set {ATTENTION} or {ALL_LINEAR})"
    )


def _experts(model: nn.Module) -> Iterator[str]:
    """The names of weights that hold all experts of a layer."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.modules.conv._ConvNd):
            for key, weight in module.named_parameters(recurse=False):
                if weight.ndim == 3 and weight.shape[0] > 1:
                    yield f"{name}.{key}"


def warn_of_experts(model: nn.Module) -> None:
    """Warns that the weights of experts, which are no linear layers, got no adapters."""
    experts = list(_experts(model))
    if experts:
        warn(
            f"policy.lora.targets {ALL_LINEAR}: the weights of the experts ({_listed(experts)}) "
            "are no linear layers and get no adapter",
            stacklevel=2,
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in names)) or "none"


def _title(model: nn.Module) -> str:
    return type(model).__name__
