"""An engine for `vllm serve` processes, which exchange token ids and receive weights."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from slm_math.engines.base import EngineError, Request, Unusable, Verify, Weights, unverified
from slm_math.engines.endpoint import Refused, TemporaryFailure, check_url
from slm_math.engines.fleet import MOST_LOSSES, Fleet
from slm_math.engines.images import image_urls
from slm_math.engines.loras import Loras
from slm_math.engines.vllm_adapters import load_on_server
from slm_math.engines.vllm_control import START_HINT, ServerUnavailable, VLLMServer
from slm_math.engines.vllm_requests import (
    Pending,
    Sampled,
    awaits_rest,
    build_reply,
    check_request,
    parse_completion,
    prepare,
    sampling_fields,
)
from slm_math.engines.vllm_transfer import WeightFiles
from slm_math.policy.chat import ChatFormat
from slm_math.policy.folders import local_folder
from slm_math.policy.loading import check_path, configs_of
from slm_math.policy.role_paths import check_models, files_of_roles, paths_of
from slm_math.policy.templates import check_template, template_identity
from slm_math.policy.tokenizers import chat_of
from slm_math.ranges import check_number
from slm_math.types import Reply

ROUTE = "/inference/v1/generate"


class VLLMServers(Fleet):
    """Sends each request, as token ids, to the server with the fewest requests.

    A server that stops answering gets no requests until its health check passes; its unfinished
    requests are sent again. After `patience` seconds without any server the run ends with an error.
    A server that comes back with other weights receives the policy's before any request.

    Args:
        urls: addresses, for example http://node2:8000.
        path: model folder or hub id whose tokenizer and chat template make the prompts; by default
            the path that the servers report. An adapter, or one for each role, is loaded into
            servers of its base, unless `model` names what is served.
        chat_template: chatml, plain or a Jinja file; by default the tokenizer's own template.
        chat_template_kwargs: variables of the template, for example {enable_thinking: false}.
        model: the name of the served model; by default the first one that the servers list.
        api_key_env: the environment variable with the servers' API key, if they need one.
        concurrency: the most requests in flight at once, over all servers.
        timeout: seconds that one request may take.
        retries: how often a request is sent again while the server is healthy.
        patience: seconds for which all servers may be down.
        send_seed: whether to send a seed, so that sampling depends on the request's key alone. A
            server on a CPU then needs --no-enable-chunked-prefill.
    """

    returns_logprobs = True
    name = "vLLM servers"

    def __init__(
        self,
        urls: Sequence[str],
        path: str | dict[str, str] | None = None,
        chat_template: str | None = None,
        model: str | None = None,
        api_key_env: str = "VLLM_API_KEY",
        concurrency: int = 256,
        timeout: float = 600,
        retries: int = 4,
        patience: float = 300,
        send_seed: bool = True,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        urls = [urls] if isinstance(urls, str) else list(urls)
        if not urls:
            raise ValueError("vLLM servers need at least one address in urls")
        check_number("patience", patience, low=0)
        check_template(chat_template, chat_template_kwargs)
        for url in urls:
            check_url(url, api_key_env, "urls", "http://host:8000")
        super().__init__(
            urls=urls,
            api_key_env=api_key_env,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            patience=patience,
        )
        self.path, self.model = path and check_models(path, "path", check_path), model
        self.template, self.template_kwargs = chat_template, chat_template_kwargs
        self.send_seed = send_seed
        self.version = self._updates = 0
        self.adapters = Loras()
        self._lora_names: dict[str, str] = {}  # where a server calls an adapter something else
        # for weights and adapters, on a disk that the servers share
        self.folder: Path | None = None
        self.address: str | None = None  # this machine's address, for NCCL
        self.single_trainer = True  # whether this is the only training process
        self.dtype = "float32"  # of the weights in transit
        self.ends = frozenset[int]()  # tokens that end a reply
        self._chat: ChatFormat | None = None
        self.run = uuid.uuid4().hex[:8]
        self._weights = Weights()
        self._first: set[str] = set()  # versions of the weights in the first reply
        self._files: WeightFiles | None = None  # of the weights that were pushed last
        self._verify: Verify = unverified
        self._connected = False

    def attach_policy(
        self,
        chat: ChatFormat,
        ends: frozenset[int],
        folder: Path,
        dtype: str,
        verify: Verify = unverified,
    ) -> None:
        """Serves a policy under training, whose weights arrive through `update`.

        Args:
            chat: the policy's chat format.
            ends: the token ids that end a reply.
            folder: for files with weights and adapters; the servers must be able to read it.
            dtype: of the weights in transit.
            verify: called for each server after its weights were pushed; raises EngineError if the
                server does not compute the policy's log-probabilities.
        """
        self._chat, self.ends = chat, ends
        self.folder, self.dtype = folder, dtype
        self._verify = verify

    @property
    def chat(self) -> ChatFormat:
        if self._chat is None:
            self._handshake()
            assert self._chat is not None
        return self._chat

    def identity(self) -> dict[str, Any]:
        self._handshake()
        engine = {"engine": type(self).__name__, "version": self.server_versions}
        if self.folder is not None:  # the trainer records whose weights these are
            return engine | {"dtype": self.dtype}
        versions = {str(server.weights_version()) for server in self.servers}
        changed = sorted(versions - {"None", "default"})
        assert self.path is not None
        here = None not in map(local_folder, paths_of(self.path))
        files = files_of_roles(self.path, self.template) if here and not changed else {}
        return engine | {
            "model": self.model,
            "path": self.path,
            **files,  # {} if training has changed the weights
            **({"weights_versions": changed} if changed else {}),
            "context": self.limit,
            **template_identity(self.template, self.template_kwargs),
            "send_seed": self.send_seed,
        }

    def _handshake(self) -> None:
        """Waits until all servers are up, and reads what they serve."""
        if self._connected:
            return
        for server in self.servers:
            server.wait(self.patience)
        self.server_versions = sorted({server.check_version() for server in self.servers})
        models = [server.model() for server in self.servers]
        roots = {str(model.get("root")) for model in models}
        if len(roots) > 1:
            raise ValueError(f"the servers serve different models: {', '.join(sorted(roots))}")
        if self.model is None and self.path is not None and self.folder is None:
            self.adapters = Loras.of(self.path)
            for server in self.servers:
                self._lora_names = load_on_server(server, self.adapters)
        self.model = self.model or models[0].get("id")
        self.path = self.path or roots.pop()
        self.limit = min(int(model.get("max_model_len") or 1 << 30) for model in models)
        if self._chat is None:
            self._chat = chat_of(self.path, self.template, self.template_kwargs)
            configs = configs_of(paths_of(self.path)[0])
            self.ends = self._chat.ends(*configs)
            self._chat.images = hasattr(configs[0], "vision_config")
        self._connected = True

    # requests

    def submit(self, request: Request) -> int:
        check_request(request)
        self._handshake()
        return super().submit(request)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        finished = super().poll(min(timeout, 1.0))  # not longer: servers may need weights
        self._maintain()
        return finished

    async def _answer(self, request: Request) -> Reply:
        pending = prepare(self.chat, request, self.limit)
        failures = losses = 0
        while True:
            server = await self._least_loaded()
            server.load += 1
            try:
                sampled = await self._attempt(server, pending)
            except TemporaryFailure as error:
                server.problem = self._clean(str(error))
                lost = await self._is_lost(server)  # otherwise it is healthy, but does not answer
                losses, failures = losses + lost, failures + (not lost)
                if failures > self.retries or losses > MOST_LOSSES:
                    message = f"{server.url}: {error} (tried {failures + losses} times)"
                    raise EngineError(self._clean(message)) from None
                if not lost:
                    await self._pause(failures, error)
                continue
            finally:
                server.load -= 1
            if not awaits_rest(pending, sampled, self.chat):
                return build_reply(pending, sampled, self.chat, self.version)

    async def _attempt(self, server: VLLMServer, pending: Pending) -> Sampled:
        """Makes one attempt. Raises TemporaryFailure if another one may succeed, otherwise
        EngineError.
        """
        try:
            before = await self._named_weights(server)
            sampled, versions = parse_completion(
                await self._post_watched(server, ROUTE, self._body(pending), pending.budget)
            )
            versions |= before | await self._named_weights(server)
        except Refused as error:
            # the server has restarted and does not know the adapters
            if error.status == 404 and self._expected is not None:
                server.stale = server.restarted = True
                raise TemporaryFailure(str(error)) from None
            if error.status in (403, 404):
                raise Unusable(f"{error}. {START_HINT}") from None
            raise
        if self._expected is not None and versions != {self._expected}:
            server.stale = server.restarted = True
            raise TemporaryFailure(
                f"it answered with weights {', '.join(sorted(versions))} instead of "
                f"{self._expected}"
            )
        server.failed_pushes = 0
        if self._expected is None and versions != (self._first or versions):
            raise EngineError(
                f"{server.url} answers with other weights than before ({versions}): another "
                "process has changed them"
            )
        self._first = self._first or versions
        return sampled

    def _body(self, pending: Pending) -> dict[str, Any]:
        ids, values = sampling_fields(pending, self.chat, self.ends, self.send_seed)
        name = self.adapters.name(pending.request.role)
        served = self.model if name is None else self._lora_names.get(name, name)
        body = {"model": served, "token_ids": ids, "sampling_params": values}
        if self.chat.images and (urls := image_urls(pending.request.chat)):
            body["content_parts"] = [{"type": "image_url", "url": url} for url in urls]
        return body

    # weights

    def update(self, version: int, weights: Weights | None = None) -> None:
        assert weights is not None, "the servers need the weights"
        if self.busy:
            raise EngineError("weights cannot be updated while requests are unfinished")
        self._handshake()
        assert self.folder is not None
        self._weights, self.version = weights, version
        self._files = WeightFiles(weights, self.folder, self.dtype)
        self.adapters = Loras(weights.adapters)
        self._updates += 1
        self._expected = f"{self.run}-{version}.{self._updates}"
        for server in self.servers:
            server.stale, server.failed_pushes = self.is_sender, 0
        while self.is_sender:
            self._maintain()
            stale = [server.stale for server in self.servers if server.down_since is None]
            if stale and not any(stale):
                break
            time.sleep(0.1)

    def _push_weights(self, server: VLLMServer) -> None:
        """Sends the weights to one server and verifies them. Raises EngineError if that fails."""
        assert self._expected is not None
        assert self._files is not None
        pushing = time.monotonic() - server.pushed_since
        if server.failed_pushes > self.retries and pushing > min(self.patience, 30.0):
            reason = f" ({server.problem})" if server.problem else ""
            message = (
                f"{server.url} does not answer with the weights that were pushed "
                f"{server.failed_pushes} times{reason}"
            )
            raise EngineError(self._clean(message))
        if server.restarted:
            server.reconnect()
            server.restarted = False
        try:
            server.push(
                self._weights,
                self._expected,
                file=self._files.path,
                address=self.address,
                dtype=self.dtype,
                single_trainer=self.single_trainer,
                images=self.chat.images,
            )
            self._verify(partial(self._answer_now, server))
        except ServerUnavailable as error:
            server.problem = str(error)
            self._mark_down(server)
        except RuntimeError as error:  # NCCL raises these, too
            if isinstance(error, EngineError):
                raise
            raise EngineError(
                f"{server.url} could not load the weights: {type(error).__name__}: {error}"
            ) from error
        else:
            server.stale = False

    def _answer_now(self, server: VLLMServer, request: Request) -> Reply:
        """One server's reply to a request, whether or not the server is marked as usable."""
        pending = prepare(self.chat, request, self.limit)
        while True:
            try:
                sampled, versions = parse_completion(
                    server.response("POST", ROUTE, self._body(pending), self.timeout)
                )
            except TemporaryFailure as error:
                raise EngineError(f"{server.url}: {error}") from None
            versions = versions or {str(server.weights_version())}
            if versions != {self._expected}:
                raise EngineError(
                    f"{server.url} answers with weights {versions} after it was sent "
                    f"{self._expected}"
                )
            server.failed_pushes = 0
            if not awaits_rest(pending, sampled, self.chat):
                return build_reply(pending, sampled, self.chat, self.version)
