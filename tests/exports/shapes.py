"""Small models of the shapes and chat templates that are exported, and who looks at exports."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import torch
from tiny import SCRATCH
from transformers import AutoModelForCausalLM
from transformers.models.auto import configuration_auto

from slm_math.exports import plain
from slm_math.exports.certificate import Certificate, begun, certified
from slm_math.policy.config import Lora, Policy
from slm_math.policy.export import export_policy, layout_of

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
GEMMA = {"head_dim": 8, "sliding_window": 16, "tie_word_embeddings": True}
_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# with a system message of its own, as the templates of Qwen2 and SmolLM2 have one
WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe exact.<|im_end|>\n{% endif %}"
    + _TURNS
)
# with a BOS, headers and the date, and with texts trimmed, as that of Llama
WITH_DATE = (
    "{{ bos_token }}{{ '<|im_start|>' }}date\n\n{{ strftime_now('%d %b %Y') }}<|im_end|>"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
# that refuses system messages, and calls the assistant by another name, as that of Gemma
WITHOUT_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no system messages') }}{% endif %}<|im_start|>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
SHAPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "qwen2": ("qwen2", {"tie_word_embeddings": True}, WITH_SYSTEM),
    "llama": ("llama", {"tie_word_embeddings": False}, WITH_DATE),
    "smollm2": ("llama", {"tie_word_embeddings": True}, WITH_SYSTEM),
    "gemma2": ("gemma2", GEMMA | {"query_pre_attn_scalar": 8}, WITHOUT_SYSTEM),
    "gemma3": ("gemma3_text", GEMMA | {"query_pre_attn_scalar": 8}, WITHOUT_SYSTEM),
}


def base_of_shape(shape: str, folder: Path, **more: Any) -> Path:
    """A model folder with random weights; `more` are options of its config."""
    kind, options, template = SHAPES[shape]
    tokenizer = SCRATCH.tokenizer()
    tokenizer.add_special_tokens(
        {"bos_token": "<|begin|>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    )
    tokenizer.chat_template = template
    config = configuration_auto.CONFIG_MAPPING[kind](
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **(SIZES | HEADS | options | more),
    )
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def stirred(policy: Policy, roles: tuple[str, ...] = ("solver",), by: float = 0.1) -> Any:
    """A loaded policy with other weights than those it started from."""
    loaded = policy.load(roles)
    move(loaded, by)
    return loaded


@torch.no_grad()
def move(loaded: Any, by: float) -> None:
    torch.manual_seed(7)
    for parameter in loaded.parameters():
        parameter += by * torch.randn_like(parameter)


def exported(policy: Policy, loaded: Any, folder: Path, dtype: str = "float32") -> Certificate:
    """The certificate of an export, begun."""
    layout = layout_of(policy, loaded)
    export_policy(loaded, policy.chat(), folder, **layout, dtype=dtype)
    return begun(loaded, policy.chat(), folder, dtype=dtype, merged=layout["merge"])


def inside(request: dict[str, Any], place: Path) -> dict[str, Any]:
    """`plain` in this process, which saves the seconds in which another one imports torch."""
    asked = json.loads(json.dumps(request))
    with contextlib.chdir(place):
        return plain.look(asked)


def checked(folder: Path, certificate: Certificate) -> Certificate:
    return certified(folder, certificate, run=inside)


def lora() -> Lora:
    return Lora(r=4, alpha=8, dropout=0.3)
