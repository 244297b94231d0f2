"""Any number of `vllm serve` processes as one engine: tokens in, tokens out, new weights over their
control routes.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from slm_math.engines.base import EngineError, Request, Verify, Weights, unverified
from slm_math.engines.endpoint import Refused, Unanswered, check_url
from slm_math.engines.fleet import Fleet
from slm_math.engines.images import image_sources, image_url
from slm_math.engines.vllm_control import HOW, NoAnswer, Server, tensors_file
from slm_math.engines.vllm_requests import Asked, Said, ask, check, fields, goes_on, read, reply
from slm_math.policy.chat import ChatFormat
from slm_math.policy.loading import configs_of, files_of, load_tokenizer, local_folder
from slm_math.types import Reply

ROUTE = "/inference/v1/generate"
HEARTBEAT = 20.0  # seconds without an answer after which a server is asked how it is


class VLLMServers(Fleet):
    """Sends each request to the server that has the least to do, as token ids, and gets token ids
    back.

    Servers that stop answering are left out until they are back; what they were working on is sent
    to others, or again. When none has answered for `patience` seconds, the run ends with an error.
    A server that comes back with other weights than it was sent gets them again before it is asked
    anything.

    Args:
        urls: addresses, like http://node2:8000.
        path: model folder or hub id of which tokenizer and chat template make the prompts; what the
            first server says that it serves when left out.
        chat_template: chatml, plain or a Jinja file instead of the tokenizer's own template.
        model: the name under which it is served; the first one that the server lists when left out.
        api_key_env: the environment variable that holds the servers' key, if they want one.
        concurrency: requests under way at once, all servers together.
        timeout: seconds that one request may take.
        retries: how often a request is tried again on servers that are well.
        patience: seconds that all servers may stay away.
        send_seed: sampling then depends on a request's key alone. A server on a CPU needs
            --no-enable-chunked-prefill.
    """

    returns_logprobs = True
    name = "vLLM servers"

    def __init__(
        self,
        urls: Sequence[str],
        path: str | None = None,
        chat_template: str | None = None,
        model: str | None = None,
        api_key_env: str = "VLLM_API_KEY",
        concurrency: int = 256,
        timeout: float = 600,
        retries: int = 4,
        patience: float = 300,
        send_seed: bool = True,
    ) -> None:
        urls = [urls] if isinstance(urls, str) else list(urls)
        if not urls:
            raise ValueError("vLLM servers need at least one address under urls")
        if patience < 0:
            raise ValueError(f"patience must be 0 s or more, got {patience}")
        for url in urls:
            check_url(url, api_key_env, "urls", "http://host:8000")
        super().__init__(urls, api_key_env, concurrency, timeout, retries, patience)
        self.path = path
        self.template = chat_template
        self.model = model
        self.send_seed = send_seed
        self.version = 0
        self.adapters: tuple[str, ...] = ()
        self.folder: Path | None = None  # where weights are handed over
        self.address: str | None = None  # of this machine, for NCCL
        self.single_trainer = True  # no other process trains
        self.dtype = "float32"  # of the weights on their way
        self.ends = frozenset[int]()  # tokens that end a reply
        self._chat: ChatFormat | None = None
        self.run = uuid.uuid4().hex[:8]
        self._weights = Weights()
        self._updates = 0
        self._first: set[str] = set()  # the name of the weights that answered first
        self._file: Path | None = None
        self._verify: Verify = unverified
        self._met = False

    def attach_policy(
        self,
        chat: ChatFormat,
        ends: frozenset[int],
        folder: Path,
        dtype: str,
        verify: Verify = unverified,
    ) -> None:
        """Makes the servers copies of a policy under training; weights are handed over in `folder`.

        `verify` is called for every server that got weights, and raises EngineError where it is no
        copy.
        """
        self._chat, self.ends, self.folder, self.dtype, self._verify = (
            chat,
            ends,
            folder,
            dtype,
            verify,
        )

    @property
    def chat(self) -> ChatFormat:
        if self._chat is None:
            self._handshake()
            assert self._chat is not None
        return self._chat

    def identity(self) -> dict[str, Any]:
        self._handshake()
        # a policy under training: whose weights these are is for others to say
        if self.folder is not None:
            return {"engine": type(self).__name__, "version": self.served, "dtype": self.dtype}
        changed = sorted(
            {str(server.weights_version()) for server in self.servers} - {"None", "default"}
        )
        files = (
            files_of(str(self.path), self.template)
            if local_folder(str(self.path)) and not changed
            else {}
        )
        return {
            "engine": type(self).__name__,
            "version": self.served,
            "model": self.model,
            "path": self.path,
            **files,  # where no training has sent others
            **({"weights_versions": changed} if changed else {}),
            "context": self.limit,
            "chat_template": self.template,
            "send_seed": self.send_seed,
        }

    def _handshake(self) -> None:
        """Waits for the servers, and learns what they serve."""
        if self._met:
            return
        for server in self.servers:
            server.wait(self.patience)
        self.served = sorted({server.check_version() for server in self.servers})
        found = [server.model() for server in self.servers]
        roots = {str(model.get("root")) for model in found}
        if len(roots) > 1:
            raise ValueError(f"the servers serve different models: {', '.join(sorted(roots))}")
        self.model = self.model or found[0].get("id")
        self.path = self.path or roots.pop()
        self.limit = min(int(model.get("max_model_len") or 1 << 30) for model in found)
        if self._chat is None:
            self._chat = ChatFormat(load_tokenizer(self.path), self.template)
            configs = configs_of(self.path)
            self.ends = self._chat.ends(*configs)
            self._chat.images = hasattr(configs[0], "vision_config")
        self._met = True

    # -- requests
    #
    # ----------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> int:
        check(request)
        self._handshake()
        return super().submit(request)

    def poll(self, timeout: float = 0.0) -> list[tuple[int, Reply | EngineError]]:
        found = super().poll(min(timeout, 1.0))  # servers want to be looked after
        self._look_after()
        return found

    async def _answer(self, request: Request) -> Reply:
        asked = ask(self.chat, request, self.limit)
        failures = 0
        while True:
            server = await self._free()
            server.load += 1
            try:
                said = await self._one(server, asked)
            except Unanswered as error:
                server.problem = self._clean(str(error))
                if await self._lost(server):
                    continue
                failures += 1  # it is well, and does not answer this
                if failures > self.retries:
                    raise EngineError(
                        self._clean(f"{server.url}: {error} (tried {failures} times)")
                    ) from None
                await self._pause(failures, error)
                continue
            finally:
                server.load -= 1
            if not goes_on(asked, said, self.chat):
                return reply(asked, said, self.chat, self.version)

    async def _one(self, server: Server, asked: Asked) -> Said:
        """One attempt at one request. Raises Unanswered where another one may do better."""
        try:
            said, versions = read(await self._watched(server, self._body(asked)))
        except Refused as error:
            # it was started anew, and knows no adapters
            if error.status == 404 and self._expected is not None:
                server.stale = server.restarted = True
                raise Unanswered(str(error)) from None
            raise EngineError(f"{error}. {HOW}") if error.status in (403, 404) else error from None
        if self._expected is not None and versions != {self._expected}:
            server.stale = server.restarted = True
            raise Unanswered(
                f"it answered with weights {', '.join(sorted(versions))} instead of "
                f"{self._expected}"
            )
        server.failed_pushes = 0
        if self._expected is None and versions != (self._first or versions):
            raise EngineError(
                f"{server.url} answers with other weights than before ({versions}): they were "
                f"changed"
            )
        self._first = self._first or versions
        return said

    def _body(self, asked: Asked) -> dict[str, Any]:
        ids, values = fields(asked, self.chat, self.ends, self.send_seed)
        role = asked.request.role
        name = (
            (role if role in self.adapters else self.adapters[0]) if self.adapters else self.model
        )
        body = {"model": name, "token_ids": ids, "sampling_params": values}
        if self.chat.images and (sources := image_sources(asked.request.chat)):
            body["content_parts"] = [
                {"type": "image_url", "url": image_url(source)} for source in sources
            ]
        return body

    async def _watched(self, server: Server, body: dict[str, Any]) -> httpx.Response:
        """The answer to a request. Raises Unanswered when the server is silent about its health,
        too: a machine without power or network closes no connection."""
        post, silent = asyncio.ensure_future(self._post(f"{server.url}{ROUTE}", body)), 0
        try:
            while not (await asyncio.wait({post}, timeout=HEARTBEAT))[0]:
                silent = 0 if await self._healthy(server) else silent + 1
                if silent == 2 or server.stale:
                    raise Unanswered("it does not answer, and is not well")
            return post.result()
        finally:
            post.cancel()

    # -- weights
    #
    # ----------------------------------------------------------------------------------------------

    def update(self, version: int, weights: Weights | None = None) -> None:
        assert weights is not None, "servers have a copy of the weights"
        if self.busy:
            raise EngineError("weights cannot change while requests are under way")
        self._handshake()
        self._weights, self.version, self._file = weights, version, None
        self.adapters = tuple(weights.adapters)
        self._updates += 1
        self._expected = f"{self.run}-{version}.{self._updates}"
        for server in self.servers:
            server.stale, server.failed_pushes = self.is_sender, 0
        while self.is_sender:
            self._look_after()
            here = [server.stale for server in self.servers if server.down_since is None]
            if here and not any(here):
                break
            time.sleep(0.1)

    def _push_weights(self, server: Server) -> None:
        """Sends the weights to one server, and checks that it has them."""
        assert self._expected is not None
        if server.failed_pushes > self.retries and time.monotonic() - server.first_push > min(
            self.patience, 30.0
        ):
            reason = f" ({server.problem})" if server.problem else ""
            message = (
                f"{server.url} received the weights {server.failed_pushes} times and still does "
                f"not answer with them{reason}"
            )
            raise EngineError(self._clean(message))
        if server.restarted:
            server.forget()
            server.restarted = False
        try:
            server.push(
                self._weights,
                self._expected,
                self._written,
                self.address,
                self.dtype,
                self.single_trainer,
            )
            self._verify(partial(self._answer_now, server))
        except NoAnswer as error:
            server.problem = str(error)
            self._mark_down(server)
        except RuntimeError as error:  # of NCCL, too
            if isinstance(error, EngineError):
                raise
            raise EngineError(
                f"{server.url} did not take the weights: {type(error).__name__}: {error}"
            ) from error
        else:
            server.stale = False

    def _answer_now(self, server: Server, request: Request) -> Reply:
        """What a server says, at once and whether it is of use for others or not."""
        asked = ask(self.chat, request, self.limit)
        while True:
            try:
                said, versions = read(
                    server.response("POST", ROUTE, self._body(asked), self.timeout)
                )
            except Unanswered as error:
                raise EngineError(f"{server.url}: {error}") from None
            if versions != {self._expected}:
                raise EngineError(
                    f"{server.url} answers with weights {versions} after it was sent "
                    f"{self._expected}"
                )
            server.failed_pushes = 0
            if not goes_on(asked, said, self.chat):
                return reply(asked, said, self.chat, self.version)

    def _written(self) -> Path:
        """The file with the weights, which is written once for all servers."""
        assert self.folder is not None
        if self._file is None:
            path = self.folder / "weights.safetensors"
            self._file = tensors_file(self._weights.tensors(), path, self.dtype).resolve()
        return self._file
