"""The settings of the policy, the model under training, and how they are loaded."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from slm_math.policy.chat import ChatFormat
from slm_math.policy.complete import check_missing
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import base_of, check_model, context_of, load_model, load_tokenizer
from slm_math.policy.scratch import Scratch
from slm_math.policy.templates import check_template, template_identity
from slm_math.ranges import check_number, check_whole


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021).

    Args:
        r: rank.
        alpha: scale; the update is multiplied by alpha / r.
        dropout: dropout in front of the adapters.
        targets: names of the linear layers that get an adapter.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def __post_init__(self) -> None:
        check_whole("policy.lora.r", self.r)
        check_number("policy.lora.alpha", self.alpha, above=0)
        check_number("policy.lora.dropout", self.dropout, low=0, below=1)


@dataclass(frozen=True)
class Policy:
    """The model under training.

    Args:
        path: a model folder, an adapter folder (training continues with that adapter), or a hub id.
        scratch: instead of `path`, a small model with random weights.
        lora: train adapters instead of all weights.
        quantize: "nf4" keeps the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023); needs
            `lora` or an adapter.
        attention: transformers' attention implementation (sdpa, eager, flash_attention_2); eager in
            place of sdpa for architectures without sdpa.
        gradient_checkpointing: recompute activations in the backward pass, which saves memory.
        chat_template: chatml, plain or a Jinja file; by default the tokenizer's own template.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
    """

    path: str | None = None
    scratch: Scratch | None = None
    lora: Lora | None = None
    quantize: Literal["none", "nf4"] = "none"
    attention: str = "sdpa"
    gradient_checkpointing: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_template(self.chat_template, self.chat_template_kwargs)
        if (self.path is None) == (self.scratch is None):
            raise ValueError(
                "set either policy.path (a folder or hub id) or policy.scratch (a model with "
                "random weights)"
            )
        if self.path is not None:
            check_model(self.path)
        if self.adapter and self.lora:
            raise ValueError(f"policy.path {self.path} is an adapter already: remove policy.lora")
        if self.quantize == "nf4":
            if not (self.lora or self.adapter):
                raise ValueError("policy.quantize nf4 trains adapters only: set policy.lora")
            if importlib.util.find_spec("bitsandbytes") is None:
                raise ValueError(
                    'policy.quantize nf4 needs bitsandbytes: pip install "slm-math[quant]"'
                )

    @property
    def adapter(self) -> bool:
        """Whether `path` is an adapter folder."""
        return self.path is not None and base_of(self.path) is not None

    @property
    def base(self) -> str:
        """The path of the model, also if `path` is an adapter of it."""
        assert self.path is not None
        return base_of(self.path) or self.path

    @property
    def template_identity(self) -> dict[str, Any]:
        """What decides how chats are rendered, for manifests."""
        return template_identity(self.chat_template, self.chat_template_kwargs)

    def tokenizer(self) -> Any:
        if self.scratch is not None:
            return self.scratch.tokenizer()
        assert self.path is not None
        return load_tokenizer(self.path)

    def chat(self) -> ChatFormat:
        return ChatFormat(self.tokenizer(), self.chat_template, self.chat_template_kwargs)

    def context(self) -> int | None:
        """The model's context in tokens by its config, None if unknown; loads no weights."""
        if self.scratch is not None:
            return self.scratch.context
        assert self.path is not None
        return context_of(self.path)

    def load(self, roles: Sequence[str] = ("solver",)) -> LoadedPolicy:
        """Loads the model in fp32 (unless quantized); with LoRA, one adapter per trained role."""
        model = self._base()
        adapters: dict[str, str] = {}
        if self.lora or self.adapter:
            adapters = {role: "default" if len(roles) == 1 else role for role in roles}
            model = self._with_adapters(model, list(adapters.values()))
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            if adapters:
                model.enable_input_require_grads()
        model.config.use_cache = False
        return LoadedPolicy(model.train(), adapters)

    def keep_reference(self, loaded: LoadedPolicy, moves: bool = False) -> None:
        """Makes the present policy its reference.

        The reference is a frozen copy of the model if all weights are trained; a frozen copy of the
        adapters if training starts from one, or if the reference will move (`moves`); otherwise the
        model without adapters.
        """
        if not loaded.adapters:
            loaded.frozen = copy.deepcopy(loaded.model).requires_grad_(False).eval()
        elif self.adapter or moves:
            loaded.copy_adapters()
        else:
            loaded.frozen = "base"

    def _base(self) -> Any:
        if self.scratch is not None:
            return self.scratch.model(self.tokenizer())
        assert self.path is not None
        options: dict[str, Any] = {}
        if self.quantize == "nf4":
            from transformers import BitsAndBytesConfig

            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
        return load_model(self.base, torch.float32, self.attention, **options)

    def _with_adapters(self, model: Any, names: list[str]) -> Any:
        from peft import (
            LoraConfig,
            PeftModel,
            get_peft_model,
            get_peft_model_state_dict,
            prepare_model_for_kbit_training,
        )
        from peft.utils import load_peft_weights

        if self.quantize == "nf4":
            model = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=self.gradient_checkpointing
            )
        if self.adapter:
            assert self.path is not None
            model = PeftModel.from_pretrained(
                model, self.path, adapter_name=names[0], is_trainable=True
            )
            for name in names[1:]:
                model.load_adapter(self.path, name, is_trainable=True)
            needed = get_peft_model_state_dict(model, adapter_name=names[0])
            check_missing(self.path, needed.keys() - load_peft_weights(self.path).keys(), "adapter")
        else:
            assert self.lora is not None
            config = LoraConfig(
                r=self.lora.r,
                lora_alpha=self.lora.alpha,
                lora_dropout=self.lora.dropout,
                target_modules=list(self.lora.targets),
                task_type="CAUSAL_LM",
            )
            model = get_peft_model(model, config, adapter_name=names[0])
            for name in names[1:]:
                model.add_adapter(name, config)
        model.set_adapter(names[0])
        for name, parameter in model.named_parameters():
            # set_adapter freezes the adapters of the other roles, but all of them are trained
            parameter.requires_grad_(
                any(f".{adapter}." in name for adapter in names) and "lora_" in name
            )
        return model
