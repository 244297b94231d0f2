"""vLLM in this process: `poll` drives vLLM's scheduler step by step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from slm_math.engines import vllm_setup
from slm_math.engines.base import (
    EngineError,
    LocalEngine,
    Request,
    Verify,
    Weights,
    check_logprobs,
    unverified,
)
from slm_math.engines.images import opened_images
from slm_math.engines.loras import Loras
from slm_math.engines.vllm_requests import (
    Pending,
    Sampled,
    awaits_rest,
    build_reply,
    check_request,
    pack_support,
    prepare,
    sampling_fields,
)
from slm_math.engines.vllm_start import cpu_options, gpu_options, lora_options, options, start, stop
from slm_math.policy.adapter_files import adapter_config, base_in, check_vllm_serves
from slm_math.policy.chat import ChatFormat
from slm_math.policy.folders import local_folder
from slm_math.policy.loading import DTYPES, check_path, configs_of
from slm_math.policy.role_paths import check_models, files_of_roles, paths_of
from slm_math.policy.templates import check_template, template_identity
from slm_math.policy.tokenizers import chat_of
from slm_math.types import Reply


class VLLMEngine(LocalEngine):
    """Runs a model with vLLM (Kwon et al. 2023) in this process; loaded at the first request.

    Sampling depends on the request's key alone. Greedy replies and log-probabilities match the
    transformers engine up to rounding. Prompts that begin alike share one prefill.

    Args:
        path: model folder, adapter folder, or hub id; or role -> adapter of one base; or the folder
            of an export of several roles.
        dtype: float32, bfloat16, float16, or auto: bfloat16 on a GPU, otherwise float32.
        slots: the most requests decoded at once.
        chat_template: chatml, plain or a Jinja file; by default the tokenizer's own template.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        memory: the share of the GPU for weights and cache; by default 0.9. Set it if two engines
            share the GPU.
        context: the most tokens of a prompt and its reply; by default the model's own context.
    """

    name = "vLLM"
    needs_all_ranks = True

    def __init__(
        self,
        path: str | dict[str, str],
        dtype: str = "auto",
        slots: int = 256,
        chat_template: str | None = None,
        memory: float | None = None,
        context: int | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        reason = vllm_setup.refusal()
        if reason is not None:
            raise ValueError(reason)
        self.path = check_models(path, "path", check_path)
        self._paths = paths_of(self.path)
        check_vllm_serves(self._paths)
        check_template(chat_template, chat_template_kwargs)
        if dtype not in ("auto", *DTYPES):
            raise ValueError(f"dtype must be auto or one of {', '.join(DTYPES)}, got {dtype!r}")
        if slots < 1 or not (memory is None or 0 < memory <= 1):
            raise ValueError(
                f"vLLM needs slots >= 1 and memory in (0, 1], got {slots} and {memory}"
            )
        self.gpu = torch.cuda.is_available()
        self.dtype = ("bfloat16" if self.gpu else "float32") if dtype == "auto" else dtype
        self.slots = slots
        self.template, self.template_kwargs = chat_template, chat_template_kwargs
        self.memory = memory
        self.context = context
        self.version = 0
        self.heartbeat: Callable[[], None] = lambda: None
        self._verify: Verify = unverified
        self.ends = frozenset[int]()  # tokens that end a reply
        self._receives_weights = False  # whether `update` will be called
        self._policy_options: dict[str, Any] = {}  # see `attach_policy`
        self.adapters = Loras()
        self._loaded: set[Path | str] = set()  # adapters and "fixed" weights, which never change
        self._chat: ChatFormat | None = None
        self._core: Any = None
        self._tickets = 0
        self._pending: dict[int, Pending] = {}
        self._finished: list[tuple[int, Reply | EngineError]] = []
        self.asleep = False

    def attach_policy(
        self,
        chat: ChatFormat,
        ends: frozenset[int],
        options: Mapping[str, Any],
        heartbeat: Callable[[], None],
        verify: Verify = unverified,
    ) -> None:
        """Serves a policy under training, whose weights arrive through `update`.

        Args:
            chat: the policy's chat format.
            ends: the token ids that end a reply.
            options: options of vLLM's engine, which override those made from the arguments.
            heartbeat: called after each of vLLM's steps.
            verify: called after each update; raises EngineError if vLLM does not compute the
                policy's log-probabilities.
        """
        self._chat, self.ends = chat, ends
        self._policy_options, self._receives_weights = dict(options), True
        self.heartbeat, self._verify = heartbeat, verify

    @property
    def chat(self) -> ChatFormat:
        if self._chat is None:
            self._chat = chat_of(self.path, self.template, self.template_kwargs)
        return self._chat

    def identity(self) -> dict[str, Any]:
        engine = {"engine": type(self).__name__, "version": vllm_setup.installed()}
        if self._receives_weights:  # the trainer records whose weights these are
            return engine | {"dtype": self.dtype}
        if None in map(local_folder, self._paths):
            self._start()  # downloads the files that are hashed below
        return engine | {
            "path": self.path,
            **files_of_roles(self.path, self.template),
            "dtype": self.dtype,
            "context": self.context,
            **template_identity(self.template, self.template_kwargs),
        }

    @property
    def busy(self) -> int:
        return len(self._pending) + len(self._finished)

    # requests

    def submit(self, request: Request) -> int:
        self._start()
        if self.asleep:
            raise EngineError("vLLM sleeps without its weights: call update() before submit()")
        check_request(request, self._mask_size)
        self._tickets += 1
        try:
            pending = prepare(self.chat, request, self.limit)
            self._add(self._tickets, pending)
        except EngineError as error:
            self._finished.append((self._tickets, error))
        else:
            self._pending[self._tickets] = pending
        return self._tickets

    def cancel(self, ticket: int) -> None:
        self._finished = [item for item in self._finished if item[0] != ticket]
        if self._pending.pop(ticket, None) is not None:
            self._core.abort_request([str(ticket)])

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        end = time.perf_counter() + timeout
        while not self._finished and self._pending:
            # on a CPU vLLM draws from torch's generator even for requests with a seed
            with nullcontext() if self.gpu else torch.random.fork_rng([]):
                outputs = self._core.step()
            for output in outputs:
                self._collect(int(output.request_id), output.outputs[0])
            self.steps += 1
            self.heartbeat()
            if time.perf_counter() >= end:
                break
        over, self._finished = self._finished, []
        return over

    def _add(self, ticket: int, pending: Pending) -> None:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        ids, values = sampling_fields(pending, self.chat, self.ends, mask_size=self._mask_size)
        params = SamplingParams(**values, output_kind=RequestOutputKind.FINAL_ONLY)
        prompt: dict[str, Any] = {"prompt_token_ids": ids}
        if self.chat.images and (images := opened_images(pending.request.chat)):
            prompt["multi_modal_data"] = {"image": images}
        try:
            (prompt,) = self._core.renderer.render_cmpl([prompt])
            self._core.add_request(
                str(ticket), prompt, params, lora_request=self._lora(pending.request.role)
            )
        except ValueError as error:  # images may need more tokens than the context has
            raise EngineError(f"vLLM rejects a request: {error}") from None

    def _collect(self, ticket: int, output: Any) -> None:
        """Turns vLLM's output for a request into its result, or asks for the rest of the reply."""
        pending = self._pending[ticket]
        self.prefills += pending.first is None
        self.decoded += max(len(output.token_ids) - 1, 0)
        if output.finish_reason not in ("stop", "length"):
            del self._pending[ticket]
            self._finished.append(
                (ticket, EngineError(f"vLLM aborted a request: {output.finish_reason}"))
            )
            return
        tokens = tuple(output.token_ids)
        logps = tuple(row[token].logprob for row, token in zip(output.logprobs, tokens))
        check_logprobs(logps, str(self.path), self.dtype)
        sampled = Sampled(
            tokens=tokens,
            logps=logps,
            finish=output.finish_reason,
            support=pack_support(output.sampling_mask and output.sampling_mask.token_ids),
        )
        if awaits_rest(pending, sampled, self.chat):
            self._add(ticket, pending)
            return
        del self._pending[ticket]
        self._finished.append((ticket, build_reply(pending, sampled, self.chat, self.version)))

    # the model

    def _lora(self, role: str) -> Any:
        """vLLM's request for the adapter of a role; None for the model without one."""
        name, folders = self.adapters.name(role), self.adapters.folders
        if name is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, 1 + list(folders).index(name), str(folders[name]))

    def _start(self) -> None:
        if self._core is not None:
            return
        base = base_in(self._paths[0])
        config, generation = configs_of(base)
        self.ends = self.ends or self.chat.ends(config, generation)
        if not self._receives_weights:  # also for models that only vLLM shows images to
            self.chat.images = hasattr(config, "vision_config")
        self.adapters = Loras.of(self.path)
        options = self._options(config, base) | self._policy_options
        self._core = start(options, self._receives_weights)
        self.limit = self._core.vllm_config.model_config.max_model_len
        self._mask_size = (
            config.get_text_config().vocab_size if options.get("return_sampling_mask") else 0
        )

    def _options(self, config: Any, model: str) -> dict[str, Any]:
        own = config.get_text_config().max_position_embeddings
        context, slots = min(self.context or own, own), self.slots or 0
        common = options(model, self.dtype, slots, context)
        ranks = [found["r"] for path in self._paths if (found := adapter_config(path))]
        if ranks:
            common |= lora_options(ranks)
        size = torch.finfo(DTYPES[self.dtype]).bits // 8
        return common | (
            gpu_options(self.memory) if self.gpu else cpu_options(config, slots, context, size)
        )

    def update(self, version: int, weights: Weights | None = None) -> None:
        assert weights is not None, "vLLM needs the weights"
        if self._pending:
            raise EngineError("weights cannot be updated while requests are unfinished")
        self._start()
        if self.asleep:
            self._core.wake_up(["weights"])
        self.adapters = Loras(weights.adapters)
        try:
            self._load_weights(weights)
        except Exception as error:  # of any kind; the model may be half loaded
            raise EngineError(
                f"vLLM could not load the weights: {type(error).__name__}: {error}"
            ) from error
        if self.asleep:
            self._core.wake_up(["kv_cache"])
            self.asleep = False
        if not self._core.reset_prefix_cache():
            raise EngineError("vLLM could not reset its prefix cache after the weight update")
        if self.chat.images:
            self._core.reset_encoder_cache()  # features of the old weights
        self._core.set_weight_version(str(version))
        self.version = version
        self._verify(self._answer_now)

    def _load_weights(self, weights: Weights) -> None:
        parts = weights.parts(has_fixed="fixed" in self._loaded)
        if not (parts or self.adapters):
            raise EngineError("there are no weights to load")
        if parts:
            self._core.collective_rpc("start_weight_update")
            for part, tensors in parts.items():
                update = {"tensors": list(tensors()), "part": part}
                self._core.collective_rpc("update_weights", kwargs={"update_info": update})
            self._core.collective_rpc("finish_weight_update")
            self._loaded.add("fixed")
        for name, folder in self.adapters.folders.items():
            if folder in self._loaded:
                continue
            lora = self._lora(name)
            lora.load_inplace = True
            self._core.add_lora(lora)
            self._loaded |= {folder} & weights.still

    def _answer_now(self, request: Request) -> Reply:
        """Answers one request while there are no others."""
        self.submit(request)
        while self.busy:
            for _, result in self.poll(1.0):
                if isinstance(result, Reply):
                    return result
                raise result
        raise EngineError("vLLM did not answer")

    def release(self) -> None:
        """Puts vLLM to sleep if it shares the GPU with training.

        The weights are kept in host memory if adapters are trained, and otherwise dropped, because
        the next update sends all of them.
        """
        if (
            self._core is not None
            and self._policy_options.get("enable_sleep_mode")
            and not self.asleep
            and not self._pending
        ):
            self._core.sleep(level=1 if self.adapters else 2)
            self._loaded.clear()
            self.asleep = True

    def close(self) -> None:
        if self._core is not None:
            stop(self._core)
            self._core = None
            self._pending, self._finished, self.asleep = {}, [], False
            self._loaded.clear()
