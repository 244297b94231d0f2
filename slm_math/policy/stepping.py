"""A decoding step of decoders like Llama and Qwen without what transformers does around it.

Attention for one query is two small products: on a CPU they cost a fraction of the fused kernel,
which is made for many queries. With few rows much of a step is spent around the products, on calls
and small operations: norms and rotary positions take a few of these, which compute the same bits.
Linear layers that are adapted are called as they are; other architectures are decoded by their own
forward pass.

Axes: B sequences, L positions in the cache, G key-value heads, R query heads of each, D width of a
head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

from slm_math.policy.products import product

# model -> (its decoder; the layer, attention, MLP of it): exactly these classes, whose forward pass
# is known
_KNOWN = {
    llama.LlamaForCausalLM: (
        llama.LlamaModel,
        (llama.LlamaDecoderLayer, llama.LlamaAttention, llama.LlamaMLP),
    ),
    qwen2.Qwen2ForCausalLM: (
        qwen2.Qwen2Model,
        (qwen2.Qwen2DecoderLayer, qwen2.Qwen2Attention, qwen2.Qwen2MLP),
    ),
    qwen3.Qwen3ForCausalLM: (
        qwen3.Qwen3Model,
        (qwen3.Qwen3DecoderLayer, qwen3.Qwen3Attention, qwen3.Qwen3MLP),
    ),
}
_NORMS = (llama.LlamaRMSNorm, qwen2.Qwen2RMSNorm, qwen3.Qwen3RMSNorm)
_ATTENTIONS = ("sdpa", "eager")
_CHANGING = ("dynamic", "longrope")  # kinds of rotary positions


class Memory(Protocol):
    """The keys and values of a layer, to which those of a step are added."""

    def update(self, keys: Tensor, values: Tensor, /) -> tuple[Tensor, Tensor]: ...


class Memories(Protocol):
    """The keys and values of all layers."""

    @property
    def layers(self) -> Sequence[Any]: ...


def steps_alone(base: Any) -> bool:
    """Whether steps of a transformers model are computed by `step`: on a CPU, if it is `known`."""
    return known(base) and base.lm_head.weight.device.type == "cpu"


def replays(base: Any) -> bool:
    """Whether `step` computes the same kernels each time, so that they can be captured: it is
    `known`, and neither adapters, quantized weights nor frequencies of positions that follow the
    length decide anything.
    """
    if not known(base) or base.get_decoder().rotary_emb.rope_type in _CHANGING:
        return False
    layers = [base.lm_head]
    for layer in base.get_decoder().layers:
        own, gated = layer.self_attn, layer.mlp
        layers += [own.q_proj, own.k_proj, own.v_proj, own.o_proj]
        layers += [gated.gate_proj, gated.up_proj, gated.down_proj]
    return all(type(each) is nn.Linear and not _hooked(each) for each in layers)


def known(base: Any) -> bool:
    """Whether `step` computes what a transformers model does: one of the known architectures,
    unchanged but for its linear layers, of which each layer attends to all tokens.
    """
    if type(base) not in _KNOWN or base.training:
        return False
    if base.config._attn_implementation not in _ATTENTIONS:
        return False
    decoder = base.get_decoder()
    own_type, parts = _KNOWN[type(base)]
    if type(decoder) is not own_type or _hooked(base) or _hooked(decoder):
        return False
    for layer in decoder.layers:
        attention = layer.self_attn
        own = (layer, attention, layer.mlp)
        if tuple(map(type, own)) != parts or any(map(_hooked, own)):
            return False
        if getattr(attention, "sliding_window", None) is not None:
            return False
    return True


def _hooked(module: Any) -> bool:
    """Whether something else than its class decides what a module computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def step(
    base: Any, ids: Tensor, positions: Tensor, hidden: Tensor | None, cache: Memories
) -> Tensor:
    """The logits (B, V) after a token of each sequence, which the cache receives.

    Args:
        base: a model that `steps_alone`.
        ids: (B, 1).
        positions: (B, 1).
        hidden: (B, L) bool, where the cache is padding, the new position included; None if nowhere.
        cache: not empty.
    """
    decoder = base.get_decoder()
    states = decoder.embed_tokens(ids[:, 0])
    rotary = _rotary(*decoder.rotary_emb(states, position_ids=positions))
    bias = None
    if hidden is not None:
        bias = states.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]
    for layer, memory in zip(decoder.layers, cache.layers):
        # not as attributes, which a module looks for in three places
        parts = layer._modules
        own, gated = parts["self_attn"], parts["mlp"]._modules
        normed = _norm(parts["input_layernorm"], states)
        attended = _attended(own, normed, rotary, bias=bias, memory=memory)
        states = states + _linear(own._modules["o_proj"], attended)
        normed = _norm(parts["post_attention_layernorm"], states)
        gate = gated["act_fn"](_linear(gated["gate_proj"], normed))
        gate.mul_(_linear(gated["up_proj"], normed))
        states = states + _linear(gated["down_proj"], gate)
    return _linear(base.lm_head, _norm(decoder.norm, states))


def _linear(layer: Any, states: Tensor) -> Tensor:
    """A linear layer, which may be adapted."""
    if type(layer) is not nn.Linear or _hooked(layer):
        return layer(states)
    weight, bias = layer._parameters["weight"], layer._parameters["bias"]
    assert weight is not None
    return product(states, weight, bias)


def _norm(norm: Any, states: Tensor) -> Tensor:
    """A norm over the last axis. In 32 bits PyTorch's has the same bits as that of transformers,
    which casts to 32 bits and back.
    """
    if type(norm) in _NORMS:
        weight = norm._parameters["weight"]
        if states.dtype == torch.float32 == weight.dtype:
            return torch.rms_norm(states, weight.shape, weight, norm.variance_epsilon)
    return norm(states)


def _rotary(cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, D) each -> the factors (B, 1, D) of a head and of its two halves in turn."""
    half = sine.shape[-1] // 2
    return cosine, torch.cat([-sine[..., :half], sine[..., half:]], -1)


def _attended(
    own: Any,
    states: Tensor,
    rotary: tuple[Tensor, Tensor],
    bias: Tensor | None,
    memory: Memory,
) -> Tensor:
    """What the heads of a layer see, side by side (B, G R D)."""
    size, width = len(states), own.head_dim
    parts = own._modules
    query, key, value = [_linear(parts[name], states) for name in ("q_proj", "k_proj", "v_proj")]
    if "q_norm" in parts:
        query = _norm(parts["q_norm"], query.view(size, -1, width)).flatten(1)
        key = _norm(parts["k_norm"], key.view(size, -1, width)).flatten(1)
    turned = torch.cat([query, key], 1).view(size, -1, width)
    halves = turned.chunk(2, -1)
    turned = turned * rotary[0] + torch.cat([halves[1], halves[0]], -1).mul_(rotary[1])
    groups = key.shape[1] // width
    query, key = turned.split([turned.shape[1] - groups, groups], 1)
    keys, values = memory.update(key.unsqueeze(2), value.view(size, groups, 1, width))
    query = query.reshape(size, groups, -1, width) * own.scaling
    scores = torch.matmul(query, keys.transpose(2, 3))  # (B, G, R, L)
    if bias is not None:
        scores.add_(bias)
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    return torch.matmul(weights, values).view(size, -1)
