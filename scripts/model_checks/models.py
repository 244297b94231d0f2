"""Tiny models of many architectures, with random weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

WINDOW = 12  # tokens of a sliding window, fewer than those of most prompts
COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL = {"num_local_experts": 4, "num_experts_per_tok": 2}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
}
ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8}


@dataclass(frozen=True)
class Model:
    """A tiny model.

    Args:
        type: its `model_type`.
        options: of its config, beside `COMMON`.
        dtype: of the weights. Attention "eager" computes in 32 bits at most, and its masks hold the
            least number of the weights' type: both have to be of one type.
        refused: whether this project refuses the architecture.
        loader: the class that makes it.
    """

    type: str
    options: dict[str, Any] = field(default_factory=dict)
    dtype: torch.dtype = torch.float64
    refused: bool = False
    loader: Any = AutoModelForCausalLM


MODELS = {
    "Llama": Model("llama"),
    "Llama, attention eager": Model("llama", {"attn_implementation": "eager"}, torch.float32),
    "Qwen2": Model("qwen2"),
    "Qwen2, sliding window": Model("qwen2", {"use_sliding_window": True, **SLIDING}),
    "Qwen2-MoE": Model("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 32}),
    "Qwen3": Model("qwen3", {"head_dim": 8}),
    "Qwen3-MoE": Model("qwen3_moe", {"head_dim": 8, **EXPERTS}),
    "Qwen3-Next": Model("qwen3_next", {**DELTA, **EXPERTS, "shared_expert_intermediate_size": 32}),
    "Qwen3.5": Model("qwen3_5_text", DELTA),
    "Gemma": Model("gemma", {"head_dim": 8}),
    "Gemma 2": Model("gemma2", {**GEMMA, **SLIDING, "final_logit_softcapping": 3.0}, torch.float32),
    "Gemma 3": Model("gemma3_text", {**GEMMA, **SLIDING}),
    "Gemma 3n": Model(
        "gemma3n_text",
        {
            "num_hidden_layers": 4,
            "head_dim": 8,
            "intermediate_size": [64] * 4,
            "activation_sparsity_pattern": [0.0] * 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": WINDOW,
            "num_kv_shared_layers": 2,
            "laurel_rank": 8,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 640,
        },
    ),
    "Gemma 4": Model(
        "gemma4_text",
        {
            "num_hidden_layers": 4,
            "head_dim": 8,
            "global_head_dim": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": WINDOW,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 640,
        },
    ),
    "Phi": Model("phi"),
    "Phi-3": Model("phi3", {"sliding_window": WINDOW}),
    "Phi-MoE": Model("phimoe", LOCAL),
    "Mistral": Model("mistral", {"sliding_window": WINDOW}),
    "Ministral": Model("ministral", {**SLIDING, "head_dim": 8}),
    "Mixtral": Model("mixtral", LOCAL),
    "Granite": Model(
        "granite",
        {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    ),
    "Granite-MoE": Model("granitemoe", {**LOCAL, "logits_scaling": 4.0}),
    "Granite 4 H": Model(
        "granitemoehybrid",
        {
            **LOCAL,
            **MAMBA,
            "layer_types": ["mamba", "attention"],
            "shared_intermediate_size": 32,
            "logits_scaling": 4.0,
        },
    ),
    "Falcon, ALiBi": Model("falcon", {"alibi": True}),
    "Falcon, rotary": Model("falcon", {"alibi": False, "new_decoder_architecture": True}),
    "Falcon-H1": Model("falcon_h1", {**MAMBA, "mamba_d_ssm": 64, "lm_head_multiplier": 0.3}),
    "BLOOM": Model("bloom", {"n_layer": 2, "n_head": 4}, torch.float32),
    "MPT": Model(
        "mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}, torch.float32
    ),
    "GPT-2": Model("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 512}),
    "GPT-Neo": Model(
        "gpt_neo",
        {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
        },
    ),
    "GPT-NeoX": Model("gpt_neox"),
    "GPT-J": Model(
        "gptj", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 512, "rotary_dim": 4}
    ),
    "GPT-BigCode": Model(
        "gpt_bigcode", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 512}
    ),
    "CodeGen": Model(
        "codegen", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 512, "rotary_dim": 4}
    ),
    "OPT": Model("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "XGLM": Model(
        "xglm", {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64}, torch.float32
    ),
    "BioGPT": Model("biogpt"),
    "StableLM": Model("stablelm"),
    "StarCoder2": Model("starcoder2", {"sliding_window": WINDOW}),
    "Cohere": Model("cohere", {"logit_scale": 0.3}),
    "Cohere 2": Model("cohere2", {**SLIDING, "head_dim": 8, "logit_scale": 0.3}),
    "OLMo": Model("olmo"),
    "OLMo 2": Model("olmo2"),
    "OLMo 3": Model("olmo3", SLIDING),
    "OLMo Hybrid": Model("olmo_hybrid", DELTA),
    "OLMoE": Model("olmoe", EXPERTS),
    "SmolLM3": Model("smollm3", {"no_rope_layers": [1, 0]}),
    "GLM": Model("glm", {"head_dim": 8}),
    "GLM-4": Model("glm4", {"head_dim": 8}),
    "GLM-4-MoE": Model("glm4_moe", {"head_dim": 8, **ROUTED}),
    "DeepSeek-V2": Model("deepseek_v2", {**LATENT, **ROUTED}),
    "DeepSeek-V3": Model("deepseek_v3", {**LATENT, **ROUTED}),
    "MiniCPM3": Model("minicpm3", {**LATENT, "dim_model_base": 16, "scale_emb": 3}),
    "Nemotron": Model("nemotron"),
    "Nemotron-H": Model(
        "nemotron_h",
        {
            "layers_block_type": ["mamba", "attention", "mlp"],
            "num_hidden_layers": 3,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 8,
            "head_dim": 8,
        },
    ),
    "EXAONE 4": Model("exaone4", SLIDING),
    "LFM2": Model("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "LFM2-MoE": Model(
        "lfm2_moe", {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, **EXPERTS}
    ),
    "Mamba": Model("mamba", {"state_size": 8}),
    "Mamba 2": Model(
        "mamba2",
        {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2, "chunk_size": 8},
    ),
    "FalconMamba": Model("falcon_mamba", {"state_size": 8}),
    "Jamba": Model(
        "jamba",
        {
            **EXPERTS,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "Bamba": Model("bamba", {**MAMBA, "attn_layer_indices": [1]}),
    "Zamba 2": Model(
        "zamba2",
        {
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "num_mem_blocks": 1,
            "mamba_d_state": 8,
            "n_mamba_heads": 4,
            "mamba_headdim": 16,
            "mamba_ngroups": 1,
            "chunk_size": 8,
            "attention_head_dim": 16,
            "attention_hidden_size": 64,
            "use_mamba_kernels": False,
            "adapter_rank": 4,
            "num_key_value_heads": 4,
        },
    ),
    "gpt-oss": Model("gpt_oss", {**LOCAL, **SLIDING, "head_dim": 8}),
    "ERNIE 4.5": Model("ernie4_5", {"head_dim": 8}),
    "Hunyuan": Model("hunyuan_v1_dense", {"head_dim": 8}),
    "Seed-OSS": Model("seed_oss", {"head_dim": 8}),
    "Arcee": Model("arcee"),
    "Apertus": Model("apertus"),
    "Helium": Model("helium", {"head_dim": 8}),
    "DiffLlama": Model("diffllama"),
    "nanochat": Model("nanochat", {"final_logit_softcapping": 3.0}),
    "HyperCLOVA X": Model("hyperclovax", {"logits_scaling": 0.3}),
    "Persimmon": Model("persimmon"),
    "BitNet": Model("bitnet"),
    "CWM": Model("cwm", {**SLIDING, "head_dim": 8}),
    "RecurrentGemma": Model(
        "recurrent_gemma",
        {
            "block_types": ["recurrent", "attention"],
            "lru_width": 32,
            "attention_window_size": WINDOW,
            "head_dim": 8,
        },
        refused=True,
    ),
    "RWKV": Model("rwkv", {"attention_hidden_size": 32}, refused=True),
    "xLSTM": Model("xlstm", {"num_heads": 4}, refused=True),
    "MiniMax": Model("minimax", LOCAL, refused=True),
    "GPT": Model("openai-gpt", {"n_embd": 32, "n_head": 4, "n_layer": 2}, refused=True),
    "BERT": Model("bert", refused=True, loader=AutoModelForMaskedLM),
    "ModernBERT": Model("modernbert", refused=True, loader=AutoModelForMaskedLM),
    "T5": Model(
        "t5",
        {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "d_kv": 8},
        refused=True,
        loader=AutoModelForSeq2SeqLM,
    ),
    "BART": Model("bart", {"d_model": 32}, refused=True, loader=AutoModelForSeq2SeqLM),
}


def config_of(model: Model, tokenizer: Any) -> Any:
    """The config of a tiny model, with the tokens of the tokenizer."""
    tokens = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.eos_token_id,
    }
    return CONFIG_MAPPING[model.type](**{**COMMON, **tokens, **model.options})


def make(model: Model, tokenizer: Any) -> Any:
    """The model with random weights, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model.loader.from_config(config_of(model, tokenizer)).to(model.dtype).eval()
    if made._can_set_experts_implementation():  # the others multiply in 32 bits at most
        made.set_experts_implementation("eager")
    for parameter in made.parameters():  # spread the logits, so that greedy choices are clear
        parameter.data *= 2.0 if parameter.ndim == 2 else 1
    return made
