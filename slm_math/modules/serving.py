"""Which engine samples from the policy under training, and how it gets the policy's weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import lightning as L
import torch

from slm_math.engines import vllm_setup
from slm_math.engines.base import Engine, Request, Weights, sampled_by
from slm_math.engines.settings import Inference, choose_engine, vllm_slots
from slm_math.engines.transformers import TransformersEngine
from slm_math.engines.vllm import VLLMEngine
from slm_math.engines.vllm_requests import WITHOUT_SUPPORT
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.engines.vllm_start import lora_options
from slm_math.modules.engine_check import EngineCheck, Samples
from slm_math.modules.trainee import Trainee
from slm_math.modules.vllm_share import share_of_gpu
from slm_math.modules.whole_policy import EngineCopy
from slm_math.policy.adapter_files import check_vllm_serves
from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.ranks import gather_over_ranks
from slm_math.policy.sharding import gathered
from slm_math.policy.weights import save_adapter, save_base, save_config, tensors
from slm_math.types import Reply


class Serving:
    """The engines of a policy: role -> engine, with the policy's weights as they are now.

    The transformers engine decodes with the very weights that are trained, or, where ranks have
    slices of these, with a whole copy of its own. vLLM has a copy, which
    is sent anew whenever the policy has changed, and checked: the engine must then compute the
    policy's log-probabilities.
    """

    def __init__(self, module: Trainee) -> None:
        self.module = module
        self.gap: float | None = None  # nats, of the last check
        self._engines: dict[str | None, Engine] = {}  # by the adapter that they decode with
        self._sent: int | None = None  # the version that vLLM has
        self._sending: int | None = None  # ... and the one that it was sent last, checked or not
        self._chosen: str | None = None  # the kind, from the first question until close()
        self._sampled: list[Samples] = []  # what each copy answered to the last check
        self._copy: EngineCopy | None = None  # where ranks have slices of the weights
        self._folder: Path | None = None
        self._still = frozenset[Path]()  # adapters that are saved and never change

    @property
    def inference(self) -> Inference:
        return self.module.inference

    @property
    def kind(self) -> str:
        if self._chosen is None:
            self._chosen = self._kind(self.module.trainer)
        return self._chosen

    def _kind(self, trainer: L.Trainer) -> str:
        gpu = trainer.strategy.root_device.type == "cuda"
        return choose_engine(
            self.inference.wanted_engine, self.inference.vllm, trainer.world_size, gpu
        )

    @property
    def slots(self) -> int:
        return vllm_slots(self.inference, default=64)

    def describe(self, trainer: L.Trainer) -> dict[str, Any]:
        """For the run's manifest, before it begins."""
        kind = self._kind(trainer)
        description: dict[str, Any] = {"kind": kind, "asked": self.inference.engine}
        if kind == "servers":
            return description | {"servers": list(self.inference.vllm.servers)}
        return description | ({"vllm": vllm_setup.installed()} if kind == "vllm" else {})

    def announce(self) -> None:
        """Prints which engine samples; raises ValueError before a model is loaded if it cannot."""
        kind, trainer = self.kind, self.module.trainer
        device = trainer.strategy.root_device.type
        lines = {
            "transformers": "transformers engine",
            "servers": f"vLLM at {', '.join(self.inference.vllm.servers)}",
            "vllm": f"vLLM {vllm_setup.installed()} in this process, on the {device.upper()}",
        }
        if self._restricts and (kind == "servers" or (kind == "vllm" and device == "cpu")):
            raise ValueError(WITHOUT_SUPPORT)
        if kind != "transformers":
            self.module.policy.check_vllm_applies()
            check_vllm_serves(set(self.module.frozen.values()) - {"base"})
        reason = ""
        if kind == "transformers" and self.inference.wanted_engine == "auto" and device == "cuda":
            several = "several processes train: set vllm.servers, or engine vllm for one in each"
            reason = vllm_setup.refusal() or several
        if trainer.is_global_zero:
            print(
                f"{self.module.sampled_for}: {lines[kind]}" + (f" ({reason})" if reason else ""),
                flush=True,
            )

    def engines(self) -> dict[str, Engine]:
        """role -> engine, for all roles that the policy serves."""
        module, roles = self.module, self.roles
        loaded = module.loaded
        assert loaded is not None, "the model is not loaded yet"
        kind = self.kind
        make = {"transformers": self._own, "vllm": self._inside, "servers": self._outside}[kind]
        # vLLM has all adapters in one engine
        parts = {role: loaded.adapter_of(role) if kind == "transformers" else "" for role in roles}
        for role, part in parts.items():
            if part not in self._engines:
                self._engines[part] = make(role)
        if kind == "transformers":
            if self._copy is not None:
                self._copy.refresh(loaded, module.global_step)
            for engine in self._engines.values():
                engine.update(module.global_step)
        elif self._sent != module.global_step:
            self._send(self._engines[""])
        return {role: self._engines[part] for role, part in parts.items()}

    def sampled(self) -> int | None:
        """The tokens that the engines have sampled so far; None if one of them does not say."""
        return sampled_by(self._engines.values())

    @property
    def roles(self) -> list[str]:
        """The roles that the policy serves, trained or frozen."""
        return [*self.module.train_roles, *self.module.frozen]

    def changed(self) -> None:
        """The weights are others than those of the same step before (a checkpoint was loaded)."""
        self._sent = None
        if self._copy is not None:
            self._copy.step = None

    def release(self) -> None:
        """Training needs the memory now; weights are sent before the next request."""
        for engine in self._engines.values():
            engine.release()
            if isinstance(engine, VLLMEngine) and engine.asleep:
                self._sent = None

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        if self._folder is not None and self._sends:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._engines, self._sent, self._chosen, self._copy = {}, None, None, None
        self._folder, self._still = None, frozenset()

    # the kinds of engines

    def _own(self, role: str) -> Engine:
        module = self.module
        if module.shares_out and self._copy is None:
            self._copy = EngineCopy(module.skeleton(), module.device)
        loaded = self._copy.policy if self._copy else module.loaded
        context = module.forward_context
        if self._copy is not None:
            plugin = module.trainer.precision_plugin
            context = partial(self._copy.context, plugin.forward_context)
        assert loaded is not None
        return TransformersEngine(
            loaded.model,
            module.chat,
            self.inference.slots,
            context=partial(context, role),
            heartbeat=module.heartbeat,
        )

    def _inside(self, role: str) -> Engine:
        module = self.module
        loaded = module.loaded
        assert loaded is not None
        # goes with the process, too
        self._temporary = tempfile.TemporaryDirectory(prefix="slm-math-vllm-")
        self._folder = Path(self._temporary.name)
        base = inner(loaded.model)
        model = self._folder / "model"
        options: dict[str, Any] = {"tokenizer": str(model)}
        module.chat.tokenizer.save_pretrained(model)
        save_config(base, model)
        if not loaded.adapters:
            options["load_format"] = "dummy"  # all weights will be sent
        elif module.policy.scratch is not None:
            save_base(loaded, model)
        else:
            model = Path(module.policy.base)
        if loaded.adapters:
            options |= lora_options(loaded.model.peft_config[n].r for n in loaded.all_adapters)
        if module.policy.max_pixels is not None and module.chat.sight is not None:
            options["mm_processor_kwargs"] = module.chat.sight.settings
        if module.policy.quantize == "nf4":
            options["quantization"] = "bitsandbytes"
        memory, context = self.inference.vllm.memory, self.inference.vllm.context
        if module.device.type == "cuda":
            memory = memory or self._memory(base)
            options |= {"enable_sleep_mode": True, "return_sampling_mask": self._restricts}
        engine = VLLMEngine(str(model), self._dtype, self.slots, memory=memory, context=context)
        engine.attach_policy(
            module.chat,
            module.ends,
            options=options,
            heartbeat=module.heartbeat,
            verify=self._verify,
        )
        if module.device.type == "cuda" and module.trainer.is_global_zero:
            print(f"vLLM takes {memory:.0%} of the GPU (set vllm.memory for another share)")
        return engine

    def _outside(self, role: str) -> Engine:
        module, vllm = self.module, self.inference.vllm
        engine = VLLMServers(
            vllm.servers,
            concurrency=self.slots * len(vllm.servers),
            timeout=vllm.timeout,
            patience=vllm.patience,
        )
        self._folder = Path(module.trainer.default_root_dir).resolve() / "vllm"
        engine.attach_policy(
            module.chat, module.ends, folder=self._folder, dtype=self._dtype, verify=self._verify
        )
        engine.address = vllm.address
        engine.is_sender = self._sends
        engine.single_trainer = module.trainer.world_size == 1
        engine.run = gather_over_ranks(engine.run)[0]  # all ranks call the weights the same
        return engine

    @property
    def _restricts(self) -> bool:
        """Whether a trained role samples from a part of the tokens only."""
        settings = [self.inference.sampling_of(role) for role in self.module.train_roles]
        return any(each.restricts_support or each.not_first for each in settings)

    @property
    def _dtype(self) -> str:
        return "bfloat16" if "bf16" in str(self.module.trainer.precision) else "float32"

    def _memory(self, base: Any) -> float:
        module = self.module
        assert module.loaded is not None
        return share_of_gpu(
            module.loaded,
            base,
            self.inference,
            self.slots,
            bytes_per_number=4 if self._dtype == "float32" else 2,
            optimizers=module.trainer.optimizers,
            trains=module.trainer.state.fn == "fit",
        )

    # the weights of an engine with a copy

    @property
    def _sends(self) -> bool:
        """Whether this rank sends weights: each to its own vLLM, the first one to servers."""
        return self.kind == "vllm" or self.module.trainer.is_global_zero

    def _send(self, engine: Engine) -> None:
        """Brings vLLM's copy up to date on all ranks, and checks it. Raises EngineError when it is
        not the policy.
        """
        module = self.module
        assert module.loaded is not None
        module.progress("weights", 0, 1)
        self.gap, self._sending, self._sampled = None, module.global_step, []
        engine.update(module.global_step, self._weights(module.loaded))
        if module.shares_out:  # a pass of the policy needs all ranks
            copies = chain.from_iterable(gather_over_ranks(self._sampled))
            check = self._check()
            self.gap = max(check.gap_of(each, module.global_step) for each in copies)
        module.trainer.strategy.barrier()  # no rank samples before the weights have arrived
        self._sent = module.global_step
        module.progress("weights", 1, 1)

    def _weights(self, loaded: LoadedPolicy) -> Weights:
        if not loaded.adapters and (loaded.passes or self.module.ahead):
            # kept until the next update, since a server that restarts gets them again, and those
            # of the policy are slices, or have moved on
            named = gathered(tensors(loaded, True), self._sends, getattr(torch, self._dtype))
            device = loaded.model.device
            return Weights(
                tensors=lambda: ((name, value.to(device)) for name, value in named.items()),
                fixed=partial(tensors, loaded, trained=False),
            )
        if not loaded.adapters:
            # of a model with eyes, those that stay as they are go to a copy once
            return Weights(
                tensors=partial(tensors, loaded, trained=True),
                fixed=partial(tensors, loaded, trained=False),
            )
        assert self._folder is not None
        step = self.module.global_step
        folders = {name: self._folder / f"{name}-{step}" for name in loaded.trained_adapters}
        still = {name: self._folder / f"{name}-still" for name in loaded.frozen_adapters}
        if self._sends:
            for old in self._folder.glob("*-*"):
                if old not in [*folders.values(), *still.values()]:
                    shutil.rmtree(old, ignore_errors=True)
            for name, folder in folders.items():
                save_adapter(loaded, name, folder)
            for name, folder in still.items():
                if folder not in self._still:
                    save_adapter(loaded, name, folder)
        self._still = frozenset(still.values())
        places = folders | still
        adapters = {role: loaded.adapter_of(role) for role in self.roles}
        return Weights(
            adapters={role: name and places[name] for role, name in adapters.items()},
            still=self._still,
        )

    def _verify(self, answer: Callable[[Request], Reply]) -> None:
        """Raises EngineError where what an engine answers is not what the policy would say. Where
        ranks have slices of the weights, `_send` compares.

        A server that comes back while the policy has moved on, and the next batch is sampled with
        the weights before, is checked when it gets the next weights.
        """
        if self.module.global_step != self._sending:
            return
        check = self._check()
        if self.module.shares_out:
            self._sampled.append(check.samples(answer))
        else:
            self.gap = max(check.gap(answer, self.module.global_step), self.gap or 0.0)

    def _check(self) -> EngineCheck:
        module = self.module
        engine = self._engines[""]
        assert module.loaded is not None
        assert isinstance(engine, VLLMEngine | VLLMServers)
        return EngineCheck(
            loaded=module.loaded,
            roles=self.roles,
            context=module.forward_context,
            dtype=self._dtype,
            device=module.device,
            longest=engine.limit,
        )
