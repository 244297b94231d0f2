"""The policy's network without its weights: how many numbers it has, and two of its layers, of
tensors with shapes alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slm_math.engines.vllm_setup import kv_bytes
from slm_math.planning.rehearsal import LAYERS
from slm_math.policy.adapters import adapter_name, quiet_peft
from slm_math.policy.architectures import architecture_of, check_architecture, own_attention
from slm_math.policy.compiling import layers_of
from slm_math.policy.config import Policy
from slm_math.policy.folders import local_folder
from slm_math.policy.forward import evaluating, inner
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import config_of
from slm_math.policy.lora import new_adapters
from slm_math.policy.masters import to_bfloat16
from slm_math.policy.sight import Sight, eyes_of
from slm_math.policy.stepping import replays

NF4 = 0.516  # bytes of a weight with its constants (Dettmers et al. 2023, section 3)


@dataclass(frozen=True)
class Sizes:
    """The numbers of a network.

    Args:
        weights: all of them, those of adapters included; tied ones count once.
        trained: those that are trained.
        matrices: those of the decoder's linear layers, which quantization reaches.
        largest: of the largest weight that is trained.
        orthogonal: those that Muon moves: matrices that are no embeddings.
        token: bytes of a token's keys and values, in 32 bits.
        vocabulary: rows of the language-model head.
        layers: decoder layers.
        width: of the hidden states.
    """

    weights: int
    trained: int
    matrices: int
    largest: int
    orthogonal: int
    token: int
    vocabulary: int
    layers: int
    width: int

    @classmethod
    def of(cls, loaded: LoadedPolicy) -> Sizes:
        base = inner(loaded.model)
        text = base.config.get_text_config(decoder=True)
        trained = [p.numel() for p in loaded.parameters()]
        layers = layers_of(base)
        modules = loaded.model.modules()
        embeddings = {id(each.weight) for each in modules if isinstance(each, nn.Embedding)}
        return cls(
            weights=loaded.size,
            trained=sum(trained),
            matrices=sum(
                module.weight.numel()
                for layer in layers
                for name, module in layer.named_modules()
                if isinstance(module, nn.Linear) and "lora_" not in name
            ),
            largest=max(trained),
            orthogonal=sum(
                p.numel() for p in loaded.parameters() if p.ndim == 2 and id(p) not in embeddings
            ),
            token=kv_bytes(base.config, 4),
            vocabulary=text.vocab_size,
            layers=text.num_hidden_layers,
            width=text.hidden_size,
        )


def network(
    policy: Policy,
    roles: Sequence[str],
    frozen: Mapping[str, str],
    sight: Sight | None,
    tokenizer: Any,
    layers: int | None = None,
    rounded: bool = False,
) -> LoadedPolicy:
    """The policy as `Policy.load` makes it, on torch's device "meta": tensors have no numbers.

    Args:
        policy: its settings.
        roles: the trained roles.
        frozen: roles with adapters that are never trained.
        sight: the eyes of the model.
        tokenizer: the policy's.
        layers: decoder layers; None is all.
        rounded: whether weights are bfloat16.

    Raises:
        ValueError: for a model that cannot be trained, or whose config.json cannot be read.
    """
    config = policy.scratch.config(tokenizer) if policy.scratch else config_of(policy.base)
    check_architecture(policy.base if policy.path else "policy.scratch", config)
    config = copy.deepcopy(config)
    if layers is not None:
        _shorten(config.get_text_config(decoder=True), layers)
    attention = own_attention(config, policy.attention)
    with torch.device("meta"):
        made = architecture_of(config)._from_config(config, attn_implementation=attention)
    made.sight = sight
    if policy.vision == "frozen":
        for module in eyes_of(made):
            module.requires_grad_(False)
    adapters: dict[str, str] = {}
    if policy.has_adapters:
        # peft moves what it adds to the device of the rest
        one = policy.shared_adapter or len(roles) == 1
        adapters = {role: "default" if one else adapter_name(role) for role in roles}
        made = _with_adapters(policy, made, adapters)
    if policy.gradient_checkpointing:
        made.gradient_checkpointing_enable({"use_reentrant": False})
        if adapters:
            made.enable_input_require_grads()
    made.config.use_cache = False
    if rounded:
        to_bfloat16(made)
    return LoadedPolicy(made.train(), adapters, dict.fromkeys(frozen) if adapters else {})


def on_cpu(loaded: LoadedPolicy) -> LoadedPolicy:
    """The network as if it were on the CPU; call it, and use it, within `shapes_only`."""
    made: dict[int, Any] = {}

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:  # tied weights stay tied
            new = torch.empty(tensor.shape, dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                new = nn.Parameter(new, requires_grad=tensor.requires_grad)
                if tensor.requires_grad and tensor.dtype == torch.bfloat16:
                    new.grad_dtype = torch.float32  # type: ignore[attr-defined]
            made[id(tensor)] = new
        return made[id(tensor)]

    for module in loaded.model.modules():
        for group in (module._parameters, module._buffers):
            for name, tensor in group.items():
                if tensor is not None:
                    group[name] = moved(tensor)
    return loaded


def _with_adapters(policy: Policy, model: Any, adapters: Mapping[str, str]) -> Any:
    """The model with adapters, role -> name; none of their files but the config is read."""
    from peft import LoraConfig, get_peft_model

    starts = {name: policy.start_of(role) for role, name in adapters.items()}
    new = [name for name, start in starts.items() if start is None]
    if new:
        assert policy.lora is not None
        model = new_adapters(model, policy.lora, new, with_eyes=policy.vision == "trained")
    for name, start in starts.items():
        if start is None:
            continue
        config = LoraConfig.from_pretrained(str(local_folder(start) or start))
        config.inference_mode = False
        with quiet_peft():
            if hasattr(model, "peft_config"):
                model.add_adapter(name, config)
            else:
                model = get_peft_model(model, config, adapter_name=name)
    return model


def _shorten(text: Any, layers: int) -> None:
    """Makes a text model's config one of so many layers."""
    text.num_hidden_layers = layers
    kinds = getattr(text, "layer_types", None)
    if kinds:  # the last layers are most often of the most frequent kind
        text.layer_types = list(kinds)[-layers:]


def teacher_weights(path: str) -> int:
    """The number of weights of a model that is read only."""
    config = config_of(path)
    with torch.device("meta"):
        made = architecture_of(config)._from_config(config)
    own = sum(p.numel() for p in made.parameters())
    return own


def others_of(sizes: Sizes) -> int:
    """How many layers the rehearsed network lacks."""
    return max(sizes.layers - LAYERS, 0)


def captures(network: Any) -> bool:
    """Whether a GPU captures the decoding steps of a network (see `policy.slots`); it trains on as
    it did.
    """
    with evaluating(network):
        return replays(inner(network))
