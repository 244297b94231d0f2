"""Which engine samples from the policy under training, and how it comes to have the policy's
weights.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch

from slm_math.engines import vllm_setup
from slm_math.engines.base import Engine, EngineError, Request, Weights
from slm_math.engines.endpoint import check_url
from slm_math.engines.transformers import TransformersEngine
from slm_math.engines.vllm import VLLMEngine
from slm_math.engines.vllm_requests import WITHOUT_SUPPORT
from slm_math.engines.vllm_servers import VLLMServers
from slm_math.policy.batches import collate
from slm_math.policy.forward import inner
from slm_math.policy.loaded import LoadedPolicy
from slm_math.policy.weights import (
    save_adapter,
    save_config,
    tensors,
    training_bytes,
)
from slm_math.rollout.rows import trace_rows
from slm_math.types import Generate, Problem, Reply, Sampling, Trace, Turn, user

if TYPE_CHECKING:
    from slm_math.modules.base import PolicyModule

EngineName = Literal["auto", "transformers", "vllm"]
CHECKED = ("What is 17 + 25?", "Name a prime number.")
# not 1: a server may leave the temperature out of its numbers
SAMPLED = Sampling(temperature=0.7, max_new_tokens=8)
# nats: fp32 engines agree to 1e-5 on a CPU, to TF32's 10 bits on a GPU; bf16 ones differ in single
# tokens, hardly on average
MOST = {"cpu": 1e-4, "cuda": 1e-2}
MOST_BF16 = 0.1


@dataclass(frozen=True)
class Vllm:
    """vLLM as the engine of a policy under training.

    Args:
        servers: addresses of `vllm serve` processes (http://host:8000); without any, vLLM runs in
            this process.
        memory: the share of the GPU for vLLM in this process; computed from model, slots and
            sampling when left out.
        patience: seconds that servers may stay away before the run ends.
        address: of this machine, as servers reach it over NCCL; found out when left out.
        timeout: seconds that one request to a server may take.
        context: the most tokens of a prompt and its reply, in this process; the model's own when
            left out.
    """

    servers: tuple[str, ...] = ()
    memory: float | None = None
    patience: float = 300.0
    address: str | None = None
    timeout: float = 600.0
    context: int | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and not 0 < self.memory < 1:
            raise ValueError(f"vllm.memory is a share between 0 and 1, got {self.memory}")
        if self.patience < 0 or self.timeout <= 0:
            raise ValueError(
                f"vllm.patience must be >= 0 s and timeout > 0 s, got {self.patience} and "
                f"{self.timeout}"
            )
        for url in self.servers:
            check_url(url, "VLLM_API_KEY", "vllm.servers", "http://host:8000")


def choose(engine: EngineName, vllm: Vllm = Vllm(), ranks: int = 1, gpu: bool | None = None) -> str:
    """transformers, vllm (in this process) or servers. Raises ValueError for what cannot be.

    "auto" takes servers where there are any, else vLLM where it is installed, was tested, has a GPU
    (`gpu`: any that torch can use, when left out) and only this process trains, else transformers.
    """
    gpu = torch.cuda.is_available() if gpu is None else gpu
    if engine == "transformers":
        if vllm.servers:
            raise ValueError(
                "engine transformers uses no servers: leave vllm.servers out, or set engine auto"
            )
        return engine
    if vllm.servers:
        return "servers"
    reason = vllm_setup.refusal()
    if reason is None and ranks > 1:
        reason = (
            f"vLLM runs inside of one training process, and there are {ranks}: start `vllm serve`, "
            f"set vllm.servers"
        )
    if engine == "vllm":
        if reason is not None:
            raise ValueError(f"engine vllm: {reason}")
        return engine
    return "vllm" if reason is None and gpu else "transformers"


class Serving:
    """The engines of a policy: role -> engine, with the policy's weights as they are now.

    The transformers engine decodes with the very weights that are trained. vLLM has a copy, which
    is sent anew whenever the policy has changed, and checked: the engine must then compute the
    policy's log-probabilities.
    """

    def __init__(self, module: PolicyModule, engine: EngineName, vllm: Vllm) -> None:
        self.module = module
        self.asked: EngineName = engine
        self.vllm = vllm
        self.gap: float | None = None  # the last check: nats, the largest (fp32) or mean difference
        self._engines: dict[str, Engine] = {}
        self._sent: int | None = None  # the version that vLLM has
        self._folder: Path | None = None

    @property
    def kind(self) -> str:
        return self._kind(self.module.trainer)

    def _kind(self, trainer: L.Trainer) -> str:
        gpu = trainer.strategy.root_device.type == "cuda"
        return choose(self.asked, self.vllm, trainer.world_size, gpu)

    def describe(self, trainer: L.Trainer) -> dict[str, Any]:
        """For the run's manifest, before it begins."""
        kind = self._kind(trainer)
        found: dict[str, Any] = {"kind": kind, "asked": self.asked}
        if kind == "servers":
            return found | {"servers": list(self.vllm.servers)}
        return found | ({"vllm": vllm_setup.installed()} if kind == "vllm" else {})

    def tell(self) -> None:
        """Says what samples, or why it cannot (ValueError), before a model is loaded."""
        kind, trainer = self.kind, self.module.trainer
        device = trainer.strategy.root_device.type
        lines = {
            "transformers": "rollouts: transformers engine",
            "servers": f"rollouts: vLLM at {', '.join(self.vllm.servers)}",
            "vllm": f"rollouts: vLLM {vllm_setup.installed()} in this process, on the "
            f"{device.upper()}",
        }
        if self._cut and (kind == "servers" or (kind == "vllm" and device == "cpu")):
            raise ValueError(WITHOUT_SUPPORT)
        reason = ""
        if kind == "transformers" and self.asked == "auto" and device == "cuda":
            reason = (
                vllm_setup.refusal()
                or "several processes train: vllm.servers would let vLLM sample"
            )
        if trainer.is_global_zero:
            print(lines[kind] + (f" ({reason})" if reason else ""), flush=True)

    def engines(self) -> dict[str, Engine]:
        """role -> engine; "default" serves all other roles."""
        module, roles = self.module, self.module.train_roles
        assert module.loaded is not None, "the model is not loaded yet"
        kind = self.kind
        separate = kind == "transformers" and len(module.loaded.adapters) > 1
        make = {"transformers": self._own, "vllm": self._inside, "servers": self._outside}[kind]
        for role in roles if separate else roles[:1]:
            if role not in self._engines:
                self._engines[role] = make(role)
        found = {role: self._engines[role if separate else roles[0]] for role in roles}
        if kind == "transformers":
            for engine in found.values():
                engine.update(module.global_step)
        elif self._sent != module.global_step:
            self._send(self._engines[roles[0]])
        return found | {"default": found[roles[0]]}

    def changed(self) -> None:
        """The weights are others than those of the same step before (a checkpoint was loaded)."""
        self._sent = None

    def release(self) -> None:
        """Training needs the memory now; weights are sent before the next request."""
        for engine in self._engines.values():
            engine.release()
            if isinstance(engine, VLLMEngine) and engine.asleep:
                self._sent = None

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines, self._sent = {}, None
        if self._folder is not None and self.module.trainer.is_global_zero:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    # -- the kinds of engines
    # --------------------------------------------------------------------------------------

    def _own(self, role: str) -> Engine:
        module = self.module
        context = partial(module.forward_context, role)
        return TransformersEngine(module.model, module.chat, module.slots, context, module.beat)

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
            base.save_pretrained(model, state_dict=dict(tensors(loaded)))
        else:
            model = Path(module.policy.base)
        if loaded.adapters:
            options |= lora_options(loaded)
        if module.policy.quantize == "nf4":
            options["quantization"] = "bitsandbytes"
        memory = self.vllm.memory
        if module.device.type == "cuda":
            memory = memory or self._share(base)
            options |= {
                "enable_sleep_mode": True,
                "return_sampling_mask": self._cut,
            }
        engine = VLLMEngine(
            str(model), self._dtype, module.slots, memory=memory, context=self.vllm.context
        )
        engine.attach_policy(module.chat, module.ends, options, module.beat, self._verify)
        if module.device.type == "cuda":
            print(f"vLLM takes {memory:.0%} of the GPU (vllm.memory sets another share)")
        return engine

    def _outside(self, role: str) -> Engine:
        module, vllm = self.module, self.vllm
        slots = module.slots * len(vllm.servers)
        engine = VLLMServers(
            vllm.servers, concurrency=slots, timeout=vllm.timeout, patience=vllm.patience
        )
        self._folder = Path(module.trainer.default_root_dir).resolve() / "vllm"
        engine.attach_policy(module.chat, module.ends, self._folder, self._dtype, self._verify)
        engine.address = vllm.address
        engine.is_sender = module.trainer.is_global_zero
        engine.single_trainer = module.trainer.world_size == 1
        engine.run = module.gathered(engine.run)[0]  # all ranks call the weights the same
        return engine

    @property
    def _cut(self) -> bool:
        """Whether training samples from a part of the tokens only."""
        return self.module.sampling.restricts_support or bool(self.module.sampling.not_first)

    @property
    def _dtype(self) -> str:
        return "bfloat16" if "bf16" in str(self.module.trainer.precision) else "float32"

    def _share(self, base: Any) -> float:
        """What vLLM needs of the GPU, beside what training keeps there: weights, gradients, two
        moments of Adam.
        """
        module, total = (
            self.module,
            torch.cuda.get_device_properties(self.module.device).total_memory,
        )
        kept = torch.cuda.memory_allocated(module.device) - training_bytes(module)
        if module.trainer.state.fn == "fit":
            assert module.loaded is not None
            kept += 3 * 4 * sum(p.numel() for p in module.loaded.parameters())
        size = 4 if self._dtype == "float32" else 2
        own = base.config.get_text_config().max_position_embeddings
        context = min(self.vllm.context or own, own)
        cache = vllm_setup.cache_bytes(
            base.config, module.slots, module.sampling.max_new_tokens + 1024, context, size
        )
        least = vllm_setup.cache_bytes(base.config, 1, context, context, size)
        return vllm_setup.share(
            sum(p.numel() for p in base.parameters()), cache, total, size, kept, least
        )

    # -- weights
    #
    # ----------------------------------------------------------------------------------------------

    def _send(self, engine: Engine) -> None:
        """Brings vLLM's copy up to date on all ranks, and checks it. Raises EngineError when it is
        not the policy.
        """
        module = self.module
        loaded = module.loaded
        assert loaded is not None
        module.watch("weights", 0, 1)
        self.gap = None
        engine.update(module.global_step, self._weights(loaded))
        module.trainer.strategy.barrier()  # nobody asks before the weights are there
        self._sent = module.global_step
        module.watch("weights", 1, 1)

    def _weights(self, loaded: LoadedPolicy) -> Weights:
        if not loaded.adapters:
            return Weights(tensors=partial(tensors, loaded))
        assert self._folder is not None
        step = self.module.global_step
        folders = {role: self._folder / f"{role}-{step}" for role in loaded.adapters}
        if self.module.trainer.is_global_zero:
            for old in self._folder.glob("*-*"):
                if old not in folders.values():
                    shutil.rmtree(old, ignore_errors=True)
            for role, folder in folders.items():
                save_adapter(loaded, role, folder)
        return Weights(adapters=folders)

    def _verify(self, answer: Callable[[Request], Reply]) -> None:
        """Raises EngineError where what an engine answers is not what the policy would say."""
        gap = max(self._gap(answer, role) for role in self.module.train_roles)
        self.gap = max(gap, self.gap or 0.0)
        most = MOST.get(self.module.device.type, 1e-2) if self._dtype == "float32" else MOST_BF16
        if not gap <= most:  # NaN is no agreement
            raise EngineError(
                f"after an update of its weights (step {self.module.global_step}) vLLM computes "
                f"other "
                f"log-probabilities than the policy: they differ by {gap:.3g} nats, and rounding "
                f"explains {most:g}. "
                "Nothing was trained on its samples. Check that servers serve the policy's base "
                "model in "
                f"{self._dtype}, or take engine transformers"
            )

    @torch.no_grad()
    def _gap(self, answer: Callable[[Request], Reply], role: str) -> float:
        """How far the log-probabilities of what an engine samples are from the
        policy's, in nats.
        """
        module, turns = self.module, []
        for number, text in enumerate(CHECKED):
            request = Generate(user(text), role)
            turns.append(
                Turn(
                    request,
                    answer(Request(request.chat, SAMPLED, key=("check", number), role=role)),
                )
            )
        batch = collate(
            trace_rows(Trace(Problem("check", ""), 0, tuple(turns), None), role), module.device
        )
        training = module.model.training
        module.model.eval()
        try:
            with module.forward_context(role):
                logps = module.loaded.logprobs(batch)[0]  # type: ignore[union-attr]
        finally:
            module.model.train(training)
        gap = (logps - batch.logps).abs()
        return (gap.max() if self._dtype == "float32" else gap.mean()).item()


def lora_options(loaded: LoadedPolicy) -> dict[str, Any]:
    ranks = [loaded.model.peft_config[name].r for name in loaded.adapters.values()]
    return {
        "enable_lora": True,
        "max_loras": len(ranks),
        "max_lora_rank": vllm_setup.lora_rank(max(ranks)),
    }
