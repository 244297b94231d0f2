"""The settings of the policy, the model under training, and how they are loaded."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from slm_math.policy.adapter_files import adapter_config, base_of, check_vllm_applies
from slm_math.policy.adapters import load_adapters
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import check_model, context_of, load_model, load_tokenizer
from slm_math.policy.lora import Lora, new_adapters
from slm_math.policy.scratch import Scratch
from slm_math.policy.targets import names_of
from slm_math.policy.templates import check_template, template_identity


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
            object.__setattr__(self, "path", check_model(self.path))
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

    def check_vllm_applies(self) -> None:
        """Raises ValueError if vLLM cannot sample with the adapters of this policy."""
        if self.lora is not None:
            check_vllm_applies({"target_modules": names_of(self.lora.targets)})
        elif self.path is not None:
            check_vllm_applies(adapter_config(self.path) or {})

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
        self._check_biases(roles)
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

        The reference is a frozen copy of the model if all its weights or its biases are trained; a
        frozen copy of the adapters if training starts from one, or if the reference will move
        (`moves`); otherwise the model without adapters.
        """
        if not loaded.adapters or self._trains_biases:
            loaded.frozen = copy.deepcopy(loaded.model).requires_grad_(False).eval()
        elif self.adapter or moves:
            loaded.copy_adapters()
        else:
            loaded.frozen = "base"

    @property
    def _trains_biases(self) -> bool:
        """Whether the adapter at `path` trains biases, which are weights of the base."""
        config = adapter_config(self.path) if self.path is not None else None
        return config is not None and config.get("bias", "none") != "none"

    def _check_biases(self, roles: Sequence[str]) -> None:
        if len(roles) > 1 and self._trains_biases:
            raise ValueError(
                f"adapter {self.path} trains biases of its base, which several roles cannot have "
                f"for themselves: train one role, or merge it into its base first"
            )

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
        if self.quantize == "nf4":
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=self.gradient_checkpointing
            )
        if self.adapter:
            assert self.path is not None
            model = load_adapters(model, self.path, names, trainable=True)
        else:
            assert self.lora is not None
            model = new_adapters(model, self.lora, names)
        if self.path is not None:
            for config in model.peft_config.values():  # for exports; it may be relative in a file
                config.base_model_name_or_path = self.base
        return model
