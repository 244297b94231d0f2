"""The trained model: how it is loaded, which weights learn, which adapter serves a role, what the
reference is.
"""

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
from slm_math.engines.loading import base_of, check_path, context_of, load_model, load_tokenizer
from slm_math.losses.logprobs import Wanted, token_logprobs
from slm_math.modules.scratch import Scratch
from slm_math.rollout.rows import Batch

COPY = "_reference"  # the frozen copy of an adapter is named after it


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
        scratch: instead of `path`: a small model made from a config and trained from random
            weights.
        lora: train adapters instead of all weights.
        quantize: "nf4" keeps the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023); needs
            `lora` or an adapter.
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
            raise ValueError(
                "policy needs either a path (folder or hub id) or scratch (a model made from a "
                "config)"
            )
        if self.path is not None:
            check_path(self.path)
        if self.adapter and self.lora:
            raise ValueError(
                f"policy.path {self.path} is an adapter already: leave policy.lora out"
            )
        if self.quantize == "nf4":
            if not (self.lora or self.adapter):
                raise ValueError("policy.quantize nf4 trains adapters only: set policy.lora")
            if importlib.util.find_spec("bitsandbytes") is None:
                raise ValueError(
                    'policy.quantize nf4 needs bitsandbytes: pip install "slm-math[quant]"'
                )

    @property
    def adapter(self) -> bool:
        """True when `path` is an adapter folder."""
        return self.path is not None and base_of(self.path) is not None

    @property
    def base(self) -> str:
        """The path of the model itself, also where `path` is an adapter of it."""
        assert self.path is not None
        return base_of(self.path) or self.path

    def tokenizer(self) -> Any:
        if self.scratch is not None:
            return self.scratch.tokenizer()
        assert self.path is not None
        return load_tokenizer(self.path)

    def chat(self) -> ChatFormat:
        return ChatFormat(self.tokenizer(), self.chat_template)

    def context(self) -> int | None:
        """The most tokens that the model takes, as far as its config says; the
        model is not loaded.
        """
        if self.scratch is not None:
            return self.scratch.context
        assert self.path is not None
        return context_of(self.path)

    def load(self, roles: Sequence[str] = ("solver",)) -> LoadedPolicy:
        """Loads the model in fp32 (nf4 apart); with LoRA, one adapter per trained role."""
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
        """Makes what the policy is now, before training, its reference.

        Under full training that is a frozen copy of the model; with fresh adapters the model
        without them; a frozen copy of the adapters when training starts from one, or when the
        reference is to move.
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
        from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

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
            parameter.requires_grad_(
                any(f".{adapter}." in name for adapter in names) and "lora_" in name
            )
        return model


@dataclass
class LoadedPolicy:
    """A loaded policy. `adapters`: role -> adapter name, empty when all weights are trained and
    shared by the roles.

    `frozen` is the reference: None, "base" (adapter off), "copies" (frozen adapters) or a frozen
    model.
    """

    model: Any
    adapters: dict[str, str]
    frozen: Any = None
    trainable: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.trainable = tuple(
            name for name, parameter in self.model.named_parameters() if parameter.requires_grad
        )
        if not self.trainable:
            raise ValueError("the policy has no trainable parameters: check policy.lora.targets")

    @property
    def size(self) -> int:
        """The number of all weights, trained or not (4-bit ones are stored two in a byte)."""
        return sum(p.numel() for p in self.model.parameters())

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
        with self._switched(self._adapter(role)):
            yield self.model

    def _adapter(self, role: str) -> str:
        """The adapter of a role, the first one for a role that is not trained."""
        return self.adapters.get(role, next(iter(self.adapters.values())))

    @contextmanager
    def reference(self, role: str) -> Iterator[Any]:
        """The frozen reference policy of a role."""
        if self.frozen == "base":
            try:
                with self.model.disable_adapter():
                    yield self.model
            finally:
                self._thaw()
        elif self.frozen == "copies":
            with self._switched(self._adapter(role) + COPY):
                yield self.model
        else:
            yield self.frozen.to(self.model.device)

    def copy_adapters(self) -> None:
        """Makes frozen copies of all adapters the reference."""
        for adapter in self.adapters.values():
            self.model.add_adapter(adapter + COPY, self.model.peft_config[adapter])
        self.frozen = "copies"
        self.move_reference(1.0)
        self.model.train()  # adding an adapter may leave it in another mode
        self._thaw()

    @torch.no_grad()
    def move_reference(self, share: float) -> None:
        """reference += share * (policy - reference), weight by weight; of adapters their two
        factors.
        """
        for of_reference, of_policy in self._reference_pairs():
            of_reference.lerp_(of_policy, share)

    def _reference_pairs(self) -> list[tuple[Tensor, Tensor]]:
        named = dict(self.model.named_parameters())
        if self.frozen == "copies":
            marks = [(f".{adapter}.", f".{adapter}{COPY}.") for adapter in self.adapters.values()]
            return [
                (named[n.replace(*m)], named[n]) for n in self.trainable for m in marks if m[0] in n
            ]
        return [(p, named[n]) for n, p in self.frozen.named_parameters()]

    def reference_state(self) -> list[Tensor]:
        """The reference's weights, for a checkpoint."""
        return [of_reference.detach().clone() for of_reference, _ in self._reference_pairs()]

    @torch.no_grad()
    def load_reference(self, state: Sequence[Tensor]) -> None:
        for (of_reference, _), saved in zip(self._reference_pairs(), state, strict=True):
            of_reference.copy_(saved)

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
        """What learns requires gradients again, the rest does not: peft flips this whenever it
        switches adapters.
        """
        learning = set(self.trainable)
        for name, parameter in self.model.named_parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(name in learning)

    def logprobs(
        self, batch: Batch, reference: bool = False, entropy: Wanted = "nothing"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy (nats) and argmax-hit of the batch's loss tokens, each (M,)
        fp32.

        The decoder runs on (N, T); the language-model head only on the M positions that predict a
        loss token.
        """
        grad = torch.no_grad() if reference else nullcontext()
        with grad, self.reference(batch.role) if reference else self.use(batch.role) as model:
            base = inner(model)
            positions = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(
                batch.ids
            )
            # no mask: rows are padded on the right, where causal attention never looks
            hidden = base.get_decoder()(
                input_ids=batch.ids, position_ids=positions, use_cache=False
            ).last_hidden_state
            picked = hidden.flatten(0, 1)[batch.where]
            return token_logprobs(
                picked, head_of(base), batch.targets, batch.temperature, entropy, batch.support
            )


def inner(model: Any) -> Any:
    """The model itself, without peft around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def head_of(base: Any) -> Any:
    """hidden (m, H) -> logits (m, V), with the scaling or capping that some architectures put
    behind the head.
    """
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
