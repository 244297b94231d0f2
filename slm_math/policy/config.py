"""The settings of the policy, the model under training, and how they are loaded."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from slm_math.extras import install
from slm_math.policy.adapter_files import (
    base_in,
    base_of,
    check_vllm_applies,
    check_vllm_serves,
)
from slm_math.policy.adapters import FROZEN, adapter_name, load_adapters
from slm_math.policy.chat import ChatFormat
from slm_math.policy.compiling import check_compiler, check_compiles, compile_layers
from slm_math.policy.folders import local_folder
from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.loading import config_of, context_of, load_model, sight_in
from slm_math.policy.lora import Lora, new_adapters
from slm_math.policy.role_paths import check_models, has_biases, paths_of
from slm_math.policy.scratch import Scratch
from slm_math.policy.sight import Sight, eyes_of, has_eyes, names_of_eyes
from slm_math.policy.targets import names_of
from slm_math.policy.templates import check_template, template_identity
from slm_math.policy.tokenizers import load_tokenizers
from slm_math.ranges import check_whole


@dataclass(frozen=True)
class Policy:
    """The model under training.

    Args:
        path: a model folder, an adapter folder (training continues with that adapter), or a hub id;
            or one for each role, {solver: ADAPTER, verifier: ADAPTER}, all of one base. A role
            whose path is the base gets a new adapter. The folder of an export of several roles
            stands for its adapters.
        scratch: instead of `path`, a small model with random weights.
        lora: train adapters instead of all weights, one for each trained role.
        shared_adapter: all trained roles share one adapter.
        quantize: "nf4" keeps the frozen weights in 4 bits (QLoRA, Dettmers et al. 2023); needs
            `lora` or an adapter.
        attention: transformers' attention implementation (sdpa, eager, flash_attention_2); eager in
            place of sdpa for architectures without sdpa.
        gradient_checkpointing: recompute activations in the backward pass, which saves memory.
        compile: compile the decoder layers for training (torch.compile); needs a C++ compiler, and
            gained nothing certain on a CPU.
        chat_template: chatml, plain or a Jinja file; by default the tokenizer's own template.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        vision: of a model with eyes, whether what makes features of images is trained as the rest
            is (with `lora` by adapters), or stays as it is.
        max_pixels: the most pixels of an image, which is scaled down to them; by default the
            model's own limit.
    """

    path: str | dict[str, str] | None = None
    scratch: Scratch | None = None
    lora: Lora | None = None
    shared_adapter: bool = False
    quantize: Literal["none", "nf4"] = "none"
    attention: str = "sdpa"
    gradient_checkpointing: bool = False
    compile: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    vision: Literal["frozen", "trained"] = "frozen"
    max_pixels: int | None = None
    at_base: ClassVar[tuple[str, ...]] = ()  # roles of an export at `path` that spoke with its base

    def __post_init__(self) -> None:
        check_template(self.chat_template, self.chat_template_kwargs)
        if (self.path is None) == (self.scratch is None):
            raise ValueError(
                "set either policy.path (a folder or hub id) or policy.scratch (a model with "
                "random weights)"
            )
        if self.path is not None:
            checked = check_models(self.path, "policy.path")
            if isinstance(self.path, str) and isinstance(checked, dict):
                # of an export, what training can start from: not the base that a role spoke with
                at_base = tuple(role for role, one in checked.items() if base_of(one) is None)
                object.__setattr__(self, "at_base", at_base)
                checked = {role: one for role, one in checked.items() if role not in at_base}
            object.__setattr__(self, "path", checked)
        self._check_adapters()
        check_whole("policy.max_pixels", self.max_pixels, optional=True)
        self._check_eyes()
        if self.compile:
            if self.has_adapters or self.gradient_checkpointing:
                raise ValueError(
                    "policy.compile is for the training of all weights without recomputation: "
                    "leave it out (--model.policy.compile false), or else adapters (policy.lora, "
                    "policy.quantize) and policy.gradient_checkpointing"
                )
            check_compiler()
        if self.quantize == "nf4":
            if not self.has_adapters:
                raise ValueError("policy.quantize nf4 trains adapters only: set policy.lora")
            if importlib.util.find_spec("bitsandbytes") is None:
                raise ValueError(f"policy.quantize nf4 needs bitsandbytes: {install('quant')}")

    def _check_adapters(self) -> None:
        new = [path for path in paths_of(self.path) if base_of(path) is None]
        if self.lora and self.path is not None and not new:
            raise ValueError(
                f"policy.path {' and '.join(paths_of(self.path))} is an adapter already, and "
                "policy.lora would make a new one: remove it (--model.policy.lora null)"
            )
        if isinstance(self.path, dict) and new and not self.lora:
            role = next(role for role, path in self.path.items() if path == new[0])
            raise ValueError(
                f"policy.path.{role}: {new[0]} is no adapter: set policy.lora, which gives {role} "
                "a new one, or name one model for all roles"
            )
        if self.shared_adapter and (isinstance(self.path, dict) or not self.has_adapters):
            reason = "policy.path names one for each role" if self.has_adapters else "there is none"
            raise ValueError(f"policy.shared_adapter is one adapter for all roles, and {reason}")

    def _check_eyes(self, downloaded: bool = False) -> None:
        """Raises ValueError for options of eyes that the model does not have, as far as is known
        before it is `downloaded`.
        """
        names = {"vision: trained": self.vision == "trained", "max_pixels": self.max_pixels}
        name = next((name for name, is_set in names.items() if is_set), None)
        if name is None:
            return
        if self.scratch is not None:
            lacking = "policy.scratch.vision is" if self.scratch.vision == "none" else ""
        elif downloaded or local_folder(self.base) is not None:
            lacking = "" if has_eyes(config_of(self.base)) else f"{self.base} has"
        else:
            return
        if lacking:
            raise ValueError(
                f"policy.{name} is for a model with eyes, and {lacking} none (docs/vision.md has "
                "models that see)"
            )

    @property
    def adapter(self) -> bool:
        """Whether training starts from the adapter of a folder, for some role."""
        return any(base_of(path) is not None for path in paths_of(self.path))

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained instead of all weights."""
        return self.lora is not None or self.adapter

    @property
    def base(self) -> str:
        """The path of the model, also if `path` names adapters of it."""
        return base_in(paths_of(self.path)[0])

    def start_of(self, role: str) -> str | None:
        """The adapter that the training of a role starts from, None for a new one."""
        path = self.path.get(role) if isinstance(self.path, dict) else self.path
        return path if path is not None and base_of(path) is not None else None

    @property
    def template_identity(self) -> dict[str, Any]:
        """What decides how chats are rendered, for manifests."""
        return template_identity(self.chat_template, self.chat_template_kwargs)

    def check_vllm_applies(self) -> None:
        """Raises ValueError if vLLM cannot sample with the adapters of this policy."""
        if self.lora is not None:
            check_vllm_applies({"target_modules": names_of(self.lora.targets)})
            if self.vision == "trained":
                raise ValueError(
                    "vLLM has no adapters for what makes features of images: set policy.vision "
                    "frozen, or engine transformers"
                )
        check_vllm_serves(paths_of(self.path))

    def tokenizer(self) -> Any:
        if self.scratch is not None:
            return self.scratch.tokenizer()
        return load_tokenizers(paths_of(self.path), self.chat_template)

    def sight(self, tokenizer: Any) -> Sight | None:
        """The model's eyes, None if it has none."""
        if self.scratch is not None:
            return self.scratch.sight(tokenizer, self.max_pixels)
        return sight_in(paths_of(self.path)[0], self.max_pixels)

    def chat(self) -> ChatFormat:
        tokenizer = self.tokenizer()
        sight = self.sight(tokenizer)
        return ChatFormat(tokenizer, self.chat_template, self.chat_template_kwargs, sight)

    def context(self) -> int | None:
        """The model's context in tokens by its config, None if unknown; loads no weights."""
        if self.scratch is not None:
            return self.scratch.context
        return context_of(self.base)

    def load(
        self,
        roles: Sequence[str] = ("solver",),
        frozen: Mapping[str, str] | None = None,
        sight: Sight | None = None,
    ) -> LoadedPolicy:
        """Loads the model in fp32 (unless quantized), once for all roles.

        Args:
            roles: the trained roles; with LoRA each has an adapter, unless they share one.
            frozen: role -> "base" or an adapter folder, for roles that are served and not trained.
            sight: the model's eyes if it has some, by default new ones.
        """
        frozen = frozen or {}
        self._check_biases([*roles, *frozen], frozen)
        if self.compile and self.scratch is None:
            check_compiles(self.base, config_of(self.base))
        model = self._base(sight)
        self._check_eyes(downloaded=True)
        if self.vision == "frozen":
            for module in eyes_of(model):
                module.requires_grad_(False)
        adapters: dict[str, str] = {}
        served: dict[str, str | None] = {}
        if self.has_adapters:
            one = self.shared_adapter or len(roles) == 1
            adapters = {role: "default" if one else adapter_name(role) for role in roles}
            of_files = {r: adapter_name(r) + FROZEN for r, path in frozen.items() if path != "base"}
            served = {role: of_files.get(role) for role in frozen}
            model = self._with_adapters(model, adapters)
            for role, name in of_files.items():
                # as if it were trained, since peft leaves a model with others in eval mode
                model = load_adapters(model, frozen[role], [name], trainable=True)
            if self.path is not None:
                for config in model.peft_config.values():  # for exports; it may be relative
                    config.base_model_name_or_path = self.base
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            if adapters:
                model.enable_input_require_grads()
        model.config.use_cache = False
        if self.compile:
            compile_layers(inner(model))
        return LoadedPolicy(model.train(), adapters, served)

    def keep_reference(self, loaded: LoadedPolicy, moves: bool = False) -> None:
        """Makes the present policy its reference.

        The reference is a frozen copy of the model if all its weights or its biases are trained; a
        frozen copy of the adapters if training starts from one, or if the reference will move
        (`moves`); otherwise the model without adapters.
        """
        if not loaded.adapters or self._trains_biases:
            # a tower that stays as it is needs no copy, and its features serve both
            shared = eyes_of(loaded.model) if self.vision == "frozen" else []
            memo = {id(module): module for module in shared}
            loaded.reference_model = copy.deepcopy(loaded.model, memo).requires_grad_(False).eval()
            loaded.model.train()
            if self.compile:  # of which a copy knows nothing
                compile_layers(inner(loaded.reference_model))
        elif self.adapter or moves:
            loaded.copy_adapters()
        else:
            loaded.reference_model = "base"

    @property
    def _trains_biases(self) -> bool:
        """Whether an adapter at `path` trains biases, which are weights of the base."""
        return any(map(has_biases, paths_of(self.path)))

    def _check_biases(self, roles: Sequence[str], frozen: Mapping[str, str]) -> None:
        paths = [*paths_of(self.path), *(path for path in frozen.values() if path != "base")]
        with_biases = [path for path in paths if has_biases(path)]
        if len(roles) > 1 and with_biases:
            raise ValueError(
                f"adapter {with_biases[0]} trains biases of its base, which several roles cannot "
                f"have for themselves: train one role, or merge it into its base first"
            )

    def _base(self, sight: Sight | None) -> Any:
        if self.scratch is not None:
            tokenizer = self.tokenizer()
            return self.scratch.model(tokenizer, sight or self.sight(tokenizer))
        sight = sight or sight_in(paths_of(self.path)[0], self.max_pixels)
        options: dict[str, Any] = {}
        if self.quantize == "nf4":
            from transformers import BitsAndBytesConfig

            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
                **_whole(config_of(self.base)),
            )
        return load_model(self.base, torch.float32, self.attention, sight, **options)

    def _with_adapters(self, model: Any, adapters: Mapping[str, str]) -> Any:
        """The model with the adapters of trained roles, role -> name."""
        if self.quantize == "nf4":
            from peft import prepare_model_for_kbit_training

            model = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=self.gradient_checkpointing
            )
        names: dict[str | None, list[str]] = {None: []}  # where they start -> their names
        for role, name in adapters.items():
            same = names.setdefault(self.start_of(role), [])
            same += [name] if name not in same else []
        new = names.pop(None)
        if new:  # first, while the model's layers are still plain
            assert self.lora is not None
            model = new_adapters(model, self.lora, new, with_eyes=self.vision == "trained")
        for path, same in names.items():
            assert path is not None
            model = load_adapters(model, path, same, trainable=True)
        return model


def _whole(config: Any) -> dict[str, Any]:
    """What of a model is not quantized, as transformers names it: the eyes, and, as always, the
    head.
    """
    names = names_of_eyes(config)
    return {"llm_int8_skip_modules": [*names, "lm_head"]} if names else {}
