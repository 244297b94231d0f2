"""The trained model: how it is loaded, which weights learn, which adapter serves a role, what the reference is."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from slm_math.engines.chat import ChatFormat
from slm_math.engines.loading import base_of, check_path, load_model, load_tokenizer
from slm_math.losses.logprobs import token_logprobs
from slm_math.modules.scratch import Scratch
from slm_math.rollout.rows import Batch


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021).

    Args:
        r: rank.
        alpha: scale; the update is multiplied by alpha / r.
        dropout: dropout in front of the adapters.
        targets: names of the linear layers that get one.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Policy:
    """What is trained.

    Args:
        path: a model folder, an adapter folder (training goes on with that adapter), or a hub id.
        scratch: instead of `path`: a small model made from a config and trained from random weights.
        lora: train adapters instead of all weights.
        quantize: "nf4" keeps the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023); needs `lora` or an adapter.
        attention: transformers' attention implementation (sdpa, eager, flash_attention_2).
        gradient_checkpointing: recompute activations in the backward pass, for memory.
        chat_template: chatml, plain or a Jinja file, when the tokenizer has none of its own.
    """

    path: str | None = None
    scratch: Scratch | None = None
    lora: Lora | None = None
    quantize: Literal["none", "nf4"] = "none"
    attention: str = "sdpa"
    gradient_checkpointing: bool = False
    chat_template: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.scratch is None):
            raise ValueError("policy needs either a path (folder or hub id) or scratch (a model made from a config)")
        if self.path is not None:
            check_path(self.path)
        if self.adapter and self.lora:
            raise ValueError(f"policy.path {self.path} is an adapter already: leave policy.lora out")
        if self.quantize == "nf4":
            if not (self.lora or self.adapter):
                raise ValueError("policy.quantize nf4 trains adapters only: set policy.lora")
            if importlib.util.find_spec("bitsandbytes") is None:
                raise ValueError('policy.quantize nf4 needs bitsandbytes: pip install "slm-math[quant]"')

    @property
    def adapter(self) -> bool:
        """True when `path` is an adapter folder."""
        return self.path is not None and base_of(self.path) is not None

    def tokenizer(self) -> Any:
        if self.scratch is not None:
            return self.scratch.tokenizer()
        assert self.path is not None
        return load_tokenizer(self.path)

    def chat(self) -> ChatFormat:
        return ChatFormat(self.tokenizer(), self.chat_template)

    def load(self, roles: Sequence[str] = ("solver",), reference: bool = False) -> LoadedPolicy:
        """Loads the model in fp32 (nf4 apart); with LoRA, one adapter per trained role.

        `reference=True` also provides the reference policy: the model without its adapter when that is where training
        starts, a frozen copy of the adapter when it starts from one, else a frozen copy of the model.
        """
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
        loaded = LoadedPolicy(model.train(), adapters)
        if reference:
            self.keep_reference(loaded)
        return loaded

    def keep_reference(self, loaded: LoadedPolicy) -> None:
        """Makes what the policy is now, before training, its reference."""
        if not loaded.adapters:
            loaded.frozen = copy.deepcopy(loaded.model).requires_grad_(False).eval()
        elif self.adapter:
            loaded.model.load_adapter(self.path, "reference", is_trainable=False)
            loaded.frozen = "reference"
            loaded.model.train()  # loading a frozen adapter puts the model into eval mode
            loaded._thaw()
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
        return load_model(base_of(self.path) or self.path, torch.float32, self.attention, **options)

    def _with_adapters(self, model: Any, names: list[str]) -> Any:
        from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

        if self.quantize == "nf4":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=self.gradient_checkpointing)
        if self.adapter:
            assert self.path is not None
            model = PeftModel.from_pretrained(model, self.path, adapter_name=names[0], is_trainable=True)
            for name in names[1:]:
                model.load_adapter(self.path, name, is_trainable=True)
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
            # set_adapter leaves the other roles' adapters frozen; what learns is fixed here, once
            parameter.requires_grad_(any(f".{adapter}." in name for adapter in names) and "lora_" in name)
        return model


@dataclass
class LoadedPolicy:
    """A loaded policy. `adapters`: role -> adapter name, empty when all weights are trained and shared by the roles.

    `frozen` is the reference: None, "base" (adapter off), "reference" (frozen adapter) or a frozen model.
    """

    model: Any
    adapters: dict[str, str]
    frozen: Any = None
    trainable: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.trainable = tuple(name for name, parameter in self.model.named_parameters() if parameter.requires_grad)
        if not self.trainable:
            raise ValueError("the policy has no trainable parameters: check policy.lora.targets")

    def parameters(self, role: str | None = None) -> list[torch.nn.Parameter]:
        """The trainable parameters, of one role's adapter when roles have their own."""
        named = dict(self.model.named_parameters())
        mark = f".{self.adapters[role]}." if role and len(self.adapters) > 1 else ""
        return [named[name] for name in self.trainable if mark in name]

    @contextmanager
    def use(self, role: str) -> Iterator[Any]:
        """The model with the adapter of `role` switched on."""
        if len(self.adapters) < 2:
            yield self.model
            return
        with self._switched(self.adapters.get(role, next(iter(self.adapters.values())))):
            yield self.model

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """The frozen reference policy."""
        if self.frozen == "base":
            try:
                with self.model.disable_adapter():
                    yield self.model
            finally:
                self._thaw()
        elif self.frozen == "reference":
            with self._switched("reference"):
                yield self.model
        else:
            yield self.frozen.to(self.model.device)

    @contextmanager
    def _switched(self, adapter: str) -> Iterator[None]:
        before = self.model.active_adapter
        self.model.set_adapter(adapter)
        try:
            yield
        finally:
            self.model.set_adapter(before)
            self._thaw()

    def _thaw(self) -> None:
        """What learns requires gradients again, the rest does not: peft flips this whenever it switches adapters."""
        learning = set(self.trainable)
        for name, parameter in self.model.named_parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(name in learning)

    def logprobs(self, batch: Batch, reference: bool = False, entropy: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy (nats) and argmax-hit of the batch's loss tokens, each (M,) fp32.

        The decoder runs on (N, T); the language-model head only on the M positions that predict a loss token.
        """
        grad = torch.no_grad() if reference else nullcontext()
        with grad, self.reference() if reference else self.use(batch.role) as model:
            base = model.get_base_model() if hasattr(model, "get_base_model") else model
            positions = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)
            # no mask: rows are padded on the right, where causal attention never looks
            hidden = base.get_decoder()(input_ids=batch.ids, position_ids=positions, use_cache=False).last_hidden_state
            picked = hidden.flatten(0, 1)[batch.where]
            return token_logprobs(picked, head_of(base), batch.targets, batch.temperature, entropy)


def head_of(base: Any) -> Any:
    """hidden (m, H) -> logits (m, V), with the scaling or capping that some architectures put behind the head."""
    head = base.get_output_embeddings()
    config = base.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)  # Cohere multiplies
    divisor = getattr(config, "logits_scaling", None)  # Granite divides

    def logits(hidden: Tensor) -> Tensor:
        out = head(hidden)
        if scale is not None:
            out = out * scale
        if divisor is not None:
            out = out / divisor
        return out if cap is None else torch.tanh(out / cap) * cap

    return logits
