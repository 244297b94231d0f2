"""vLLM in this process: continuous batching by its scheduler, a step of which is a
step of `poll`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from slm_math.engines import vllm_setup
from slm_math.engines.base import Engine, EngineError, Request, Verify, Weights, unverified
from slm_math.engines.images import image_sources, open_image
from slm_math.engines.vllm_requests import Asked, Said, ask, check, fields, goes_on, packed, reply
from slm_math.engines.vllm_start import cpu_options, gpu_options, options, start, stop
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loading import (
    DTYPES,
    base_of,
    check_path,
    configs_of,
    files_of,
    load_tokenizer,
    local_folder,
)
from slm_math.types import Reply


class VLLMEngine(Engine):
    """A model served by vLLM (Kwon et al. 2023) in this process; loaded at the first request.

    Sampling depends on the request's key alone. Greedy replies and log-probabilities are those of
    the transformers engine up to rounding. Equal beginnings of prompts are computed once.

    Args:
        path: model folder, adapter folder, or hub id.
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, float32 without.
        slots: requests decoded at once, at most.
        chat_template: chatml, plain or a Jinja file instead of the tokenizer's own template.
        memory: the share of the GPU for weights and cache; 0.9 when left out, so that a second
            engine needs less.
        context: the most tokens of a prompt and its reply; the model's own when left out.
    """

    returns_logprobs = True
    runs_in_poll = True
    name = "vLLM"

    def __init__(
        self,
        path: str,
        dtype: str = "auto",
        slots: int = 256,
        chat_template: str | None = None,
        memory: float | None = None,
        context: int | None = None,
    ) -> None:
        reason = vllm_setup.refusal()
        if reason is not None:
            raise ValueError(reason)
        check_path(path)
        if dtype not in ("auto", *DTYPES):
            raise ValueError(f"dtype must be auto or one of {', '.join(DTYPES)}, got {dtype!r}")
        if slots < 1 or not (memory is None or 0 < memory <= 1):
            raise ValueError(
                f"vLLM needs slots >= 1 and memory in (0, 1], got {slots} and {memory}"
            )
        self.path = path
        self.gpu = torch.cuda.is_available()
        self.dtype = ("bfloat16" if self.gpu else "float32") if dtype == "auto" else dtype
        self.slots = slots
        self.template = chat_template
        self.memory = memory
        self.context = context
        self.version = 0
        self.heartbeat: Callable[[], None] = lambda: None
        self._verify: Verify = unverified
        self.ends = frozenset[int]()  # tokens that end a reply
        self._has_policy = False  # whether its weights will be updated
        self._more: dict[str, Any] = {}  # options of vLLM's engine, over those made from the above
        self.adapters: dict[str, Path] = {}
        self.steps = self.decoded = self.prefills = 0
        self._chat: ChatFormat | None = None
        self._core: Any = None
        self._tickets = 0
        self._asked: dict[int, Asked] = {}
        self._over: list[tuple[int, Reply | EngineError]] = []
        self.asleep = False

    def attach_policy(
        self,
        chat: ChatFormat,
        ends: frozenset[int],
        options: Mapping[str, Any],
        heartbeat: Callable[[], None],
        verify: Verify = unverified,
    ) -> None:
        """Makes it a copy of a policy under training, whose weights come by `update`.

        `options` are arguments of vLLM's engine; `heartbeat` is called after each of its steps;
        `verify` after each update: it raises EngineError if vLLM does not compute the policy's
        log-probabilities.
        """
        self._chat, self.ends, self._more, self._has_policy = chat, ends, dict(options), True
        self.heartbeat, self._verify = heartbeat, verify

    @property
    def chat(self) -> ChatFormat:
        if self._chat is None:
            self._chat = ChatFormat(load_tokenizer(self.path), self.template)
        return self._chat

    def identity(self) -> dict[str, Any]:
        if self._has_policy:  # whose weights these are is for others to say
            return {
                "engine": type(self).__name__,
                "version": vllm_setup.installed(),
                "dtype": self.dtype,
            }
        if local_folder(self.path) is None:
            self._start()  # from the hub: only then there is something to tell
        return {
            "engine": type(self).__name__,
            "version": vllm_setup.installed(),
            "path": self.path,
            **files_of(self.path, self.template),
            "dtype": self.dtype,
            "context": self.context,
            "chat_template": self.template,
        }

    def usage(self) -> dict[str, int]:
        return {
            "slots": self.slots,
            "steps": self.steps,
            "tokens": self.decoded,
            "prefills": self.prefills,
        }

    @property
    def busy(self) -> int:
        return len(self._asked) + len(self._over)

    # -- requests
    #
    # ----------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> int:
        self._start()
        if self.asleep:
            raise EngineError("vLLM sleeps, without its weights perhaps: it wants an update first")
        check(request, self._masks)
        self._tickets += 1
        try:
            asked = ask(self.chat, request, self.limit)
            self._add(self._tickets, asked)
        except EngineError as error:
            self._over.append((self._tickets, error))
        else:
            self._asked[self._tickets] = asked
        return self._tickets

    def cancel(self, ticket: int) -> None:
        self._over = [item for item in self._over if item[0] != ticket]
        if self._asked.pop(ticket, None) is not None:
            self._core.abort_request([str(ticket)])

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        end = time.perf_counter() + timeout
        while not self._over and self._asked:
            # from which it draws even under seeds
            with nullcontext() if self.gpu else torch.random.fork_rng([]):
                outputs = self._core.step()
            for output in outputs:
                self._take(int(output.request_id), output.outputs[0])
            self.steps += 1
            self.heartbeat()
            if time.perf_counter() >= end:
                break
        over, self._over = self._over, []
        return over

    def _add(self, ticket: int, asked: Asked) -> None:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        ids, values = fields(asked, self.chat, self.ends, masks=self._masks)
        params = SamplingParams(**values, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt: dict[str, Any] = {"prompt_token_ids": ids}
        if self.chat.images and (sources := image_sources(asked.request.chat)):
            prompt["multi_modal_data"] = {"image": [open_image(source) for source in sources]}
        try:
            (prompt,) = self._core.renderer.render_cmpl([prompt])
            self._core.add_request(
                str(ticket), prompt, params, lora_request=self._lora(asked.request.role)
            )
        except ValueError as error:  # pictures may need more tokens than there are
            raise EngineError(f"vLLM refuses a request: {error}") from None

    def _take(self, ticket: int, found: Any) -> None:
        """What vLLM has finished."""
        asked = self._asked[ticket]
        self.prefills += asked.first is None
        self.decoded += max(len(found.token_ids) - 1, 0)
        if found.finish_reason not in ("stop", "length"):
            del self._asked[ticket]
            self._over.append(
                (ticket, EngineError(f"vLLM gave a request up: {found.finish_reason}"))
            )
            return
        tokens = tuple(found.token_ids)
        logps = tuple(row[token].logprob for row, token in zip(found.logprobs, tokens))
        said = Said(
            tokens,
            logps,
            found.finish_reason,
            packed(found.sampling_mask and found.sampling_mask.token_ids),
        )
        if goes_on(asked, said, self.chat):
            self._add(ticket, asked)
            return
        del self._asked[ticket]
        self._over.append((ticket, reply(asked, said, self.chat, self.version)))

    # -- the model
    #
    # ----------------------------------------------------------------------------------------------

    def _lora(self, role: str) -> Any:
        """vLLM's name for the adapter of a role; the first one serves a role without its own."""
        if not self.adapters:
            return None
        from vllm.lora.request import LoRARequest

        names = list(self.adapters)
        name = role if role in self.adapters else names[0]
        return LoRARequest(name, 1 + names.index(name), str(self.adapters[name]))

    def _start(self) -> None:
        if self._core is not None:
            return
        base = base_of(self.path)
        config, generation = configs_of(self.path)
        self.ends = self.ends or self.chat.ends(config, generation)
        # a policy under training is scored from its tokens alone, so far
        self.chat.images = hasattr(config, "vision_config") and not self._has_policy
        if base is not None:
            self.adapters = {"default": Path(self.path).expanduser()}
        options = self._options(config, base or self.path) | self._more
        self._core = start(options, self._has_policy)
        self.limit = self._core.vllm_config.model_config.max_model_len
        self._masks = (
            config.get_text_config().vocab_size if options.get("return_sampling_mask") else 0
        )

    def _options(self, config: Any, model: str) -> dict[str, Any]:
        own = config.get_text_config().max_position_embeddings
        context = min(self.context or own, own)
        found = options(model, self.dtype, self.slots, context)
        if base_of(self.path) is not None:
            config_file = Path(self.path).expanduser() / "adapter_config.json"
            rank = json.loads(config_file.read_text(encoding="utf-8"))["r"]
            found |= {"enable_lora": True, "max_lora_rank": vllm_setup.lora_rank(rank)}
        size = torch.finfo(DTYPES[self.dtype]).bits // 8
        return found | (
            gpu_options(self.memory) if self.gpu else cpu_options(config, self.slots, context, size)
        )

    def update(self, version: int, weights: Weights | None = None) -> None:
        assert weights is not None, "vLLM has a copy of the weights"
        if self._asked:
            raise EngineError("weights cannot change while requests are under way")
        self._start()
        if self.asleep:
            self._core.wake_up(["weights"])
        self.adapters = dict(weights.adapters)
        try:
            self._take_in(list(weights.tensors()))
        except Exception as error:  # vLLM's own, of any kind; half of its model may be gone
            raise EngineError(
                f"vLLM did not take the weights: {type(error).__name__}: {error}"
            ) from error
        if self.asleep:
            self._core.wake_up(["kv_cache"])
            self.asleep = False
        if not self._core.reset_prefix_cache():
            raise EngineError("vLLM would not forget what it computed with the old weights")
        self._core.set_weight_version(str(version))
        self.version = version
        self._verify(self._answer_now)

    def _take_in(self, tensors: list[tuple[str, Any]]) -> None:
        if not (tensors or self.adapters):
            raise EngineError("there were none")
        if tensors:
            self._core.collective_rpc("start_weight_update")
            self._core.collective_rpc(
                "update_weights", kwargs={"update_info": {"tensors": tensors}}
            )
            self._core.collective_rpc("finish_weight_update")
        for role in self.adapters:
            lora = self._lora(role)
            lora.load_inplace = True
            self._core.add_lora(lora)

    def _answer_now(self, request: Request) -> Reply:
        """The answer to the only request there is."""
        self.submit(request)
        while self.busy:
            for _, result in self.poll(1.0):
                if isinstance(result, Reply):
                    return result
                raise result
        raise EngineError("vLLM did not answer")

    def release(self) -> None:
        """On a GPU that is shared with training: sleeps, without the weights where all of them will
        be sent anew.
        """
        if (
            self._core is not None
            and self._more.get("enable_sleep_mode")
            and not self.asleep
            and not self._asked
        ):
            self._core.sleep(level=1 if self.adapters else 2)
            self.asleep = True

    def close(self) -> None:
        if self._core is not None:
            stop(self._core)
            self._core = None
            self._asked, self._over, self.asleep = {}, [], False
