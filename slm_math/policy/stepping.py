"""A decoding step of decoders like Llama and Qwen without what transformers does around it.

Attention for one query is two small products: on a CPU they cost a fraction of the fused kernel,
which is made for many queries. Layers are called as they are, so adapters and changed weights
count; other architectures are decoded by their own forward pass.

Axes: B sequences, L positions in the cache, G key-value heads, R query heads of each, D width of a
head.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

from slm_math.policy.caches import RowCache

# model -> (its decoder, layer, attention): exactly these classes, whose forward pass is known
_KNOWN = {
    llama.LlamaForCausalLM: (llama.LlamaModel, llama.LlamaDecoderLayer, llama.LlamaAttention),
    qwen2.Qwen2ForCausalLM: (qwen2.Qwen2Model, qwen2.Qwen2DecoderLayer, qwen2.Qwen2Attention),
    qwen3.Qwen3ForCausalLM: (qwen3.Qwen3Model, qwen3.Qwen3DecoderLayer, qwen3.Qwen3Attention),
}
_ATTENTIONS = ("sdpa", "eager")


def steps_alone(base: Any) -> bool:
    """Whether `step` computes what a transformers model does: one of the known architectures on a
    CPU, unchanged but for its linear layers, of which each layer attends to all tokens.
    """
    if type(base) not in _KNOWN or base.training or base.device.type != "cpu":
        return False
    if base.config._attn_implementation not in _ATTENTIONS:
        return False
    decoder = base.get_decoder()
    return not any(map(_hooked, (base, decoder))) and all(
        (type(decoder), type(layer), type(layer.self_attn)) == _KNOWN[type(base)]
        and getattr(layer.self_attn, "sliding_window", None) is None
        and not any(map(_hooked, (layer, layer.self_attn)))
        for layer in decoder.layers
    )


def _hooked(module: Any) -> bool:
    """Whether something else than its class decides what a module computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def step(
    base: Any, ids: Tensor, positions: Tensor, hidden: Tensor | None, cache: RowCache
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
    rotary = decoder.rotary_emb(states, position_ids=positions)
    bias = None
    if hidden is not None:
        bias = states.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[:, None, None]
    for number, layer in enumerate(decoder.layers):
        own, memory = layer.self_attn, cast(CacheLayerMixin, cache.layers[number])
        attended = _attended(own, layer.input_layernorm(states), rotary, bias=bias, memory=memory)
        states = states + own.o_proj(attended)
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    return base.lm_head(decoder.norm(states))


def _attended(
    own: Any,
    states: Tensor,
    rotary: tuple[Tensor, Tensor],
    bias: Tensor | None,
    memory: CacheLayerMixin,
) -> Tensor:
    """What the heads of a layer see, side by side (B, G R D)."""
    shape = (len(states), 1, -1, own.head_dim)
    query, key, value = (
        project(states).view(shape) for project in (own.q_proj, own.k_proj, own.v_proj)
    )
    if hasattr(own, "q_norm"):
        query, key = own.q_norm(query), own.k_norm(key)
    query, key = llama.apply_rotary_pos_emb(query, key, *rotary, unsqueeze_dim=2)
    keys, values = memory.update(key.transpose(1, 2), value.transpose(1, 2))
    query = query.view(len(states), keys.shape[1], -1, own.head_dim) * own.scaling
    scores = torch.matmul(query, keys.transpose(2, 3))  # (B, G, R, L)
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(-1, dtype=torch.float32).to(values.dtype)
    return torch.matmul(weights, values).reshape(len(states), -1)
